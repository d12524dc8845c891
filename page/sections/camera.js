// A picture by the camera: within the page where the browser allows it, else by the device's own camera application.

import { announce } from "../parts/live.js";
import { element } from "../parts/dom.js";

/** @import { Session } from "../service/session.js" */

/**
 * The button that begins it.
 * @param {Session} session
 */
export function showCamera(session) {
  // Browsers have this on secure origins and on loopback alone.
  if (!navigator.mediaDevices?.getUserMedia) return deviceCamera(session);
  const button = element("button", { type: "button" }, "Use the camera");
  button.addEventListener("click", () => open(session, button));
  return button;
}

/**
 * @param {Session} session
 */
function deviceCamera(session) {
  const input = element("input", { type: "file", accept: "image/*", "aria-label": "Take a photograph" });
  input.setAttribute("capture", "environment");
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    if (file) session.show({ name: file.name, body: file, raw: false, origin: "camera" });
    input.value = "";
  });
  return input;
}

/**
 * @param {Session} session
 * @param {HTMLButtonElement} button
 */
async function open(session, button) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch (error) {
    const refused = error instanceof DOMException && error.name === "NotAllowedError";
    const text = refused
      ? "The browser does not let this page use the camera: allow it beside the address, or choose a file instead."
      : "There is no camera that can be used now: close what else uses it, or choose a file instead.";
    button.after(element("p", { class: "message", role: "alert" }, text));
    return;
  }
  const video = element("video", { autoplay: true, muted: true, playsInline: true, "aria-label": "What the camera sees" });
  video.srcObject = stream;
  const take = element("button", { type: "button", class: "primary" }, "Take the picture");
  const cancel = element("button", { type: "button" }, "Close the camera");
  const dialog = element("dialog", { class: "camera", "aria-label": "Camera" }, video, element("div", { class: "buttons" }, take, cancel));
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    for (const track of stream.getTracks()) track.stop();
    dialog.remove();
    button.focus();
  });
  cancel.addEventListener("click", () => dialog.close());
  take.addEventListener("click", async () => {
    const body = await still(video);
    dialog.close();
    announce("Picture taken");
    session.show({ name: "camera picture", body, raw: false, origin: "camera" });
  });
  dialog.showModal();
  await video.play();
}

/**
 * What the video shows now, as a PNG.
 * @param {HTMLVideoElement} video
 * @returns {Promise<Blob>}
 */
async function still(video) {
  if (!video.videoWidth) await new Promise((resolve) => video.addEventListener("loadeddata", resolve, { once: true }));
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser could not write the picture"))), "image/png");
  });
}

// Where a picture comes in: dropped, chosen, pasted, photographed, drawn, or a sample.

import { byId, element } from "../parts/dom.js";
import { showCamera } from "./camera.js";
import { showDrawing } from "./drawing.js";

/** @import { Session } from "../service/session.js" */

/**
 * @param {Session} session
 * @param {(files: File[]) => void} many takes several files
 */
export function showTry(session, many) {
  const take = (/** @type {File[]} */ files) => {
    if (files.length > 1) many(files);
    else if (files.length) session.show({ name: files[0].name || "pasted picture", body: files[0], raw: false, origin: "file" });
  };
  const section = byId("try");
  section.append(dropZone(take, session), samples(session));
  // What is drawn has one channel.
  if (session.config.task.geometry.channels === 1) showDrawing(session);
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      take(files);
    }
  });
}

/**
 * @param {(files: File[]) => void} take
 * @param {Session} session
 */
function dropZone(take, session) {
  const input = element("input", { type: "file", id: "files", multiple: true, "aria-describedby": "files-hint" });
  input.addEventListener("change", () => {
    take([...(input.files ?? [])]);
    // The same file may be chosen again.
    input.value = "";
  });
  const zone = element(
    "div",
    { class: "drop" },
    element("label", { for: "files" }, "Drop pictures anywhere, paste them, or choose"),
    element("div", { class: "buttons" }, input, showCamera(session)),
    element("p", { class: "hint", id: "files-hint" }, "PNG, JPEG, WebP, AVIF, TIFF and more; several at once make a table."),
  );
  // The browser would leave the page for a file that is dropped beside the zone.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take([...(event.dataTransfer?.files ?? [])]);
  });
  return zone;
}

/**
 * @param {Session} session
 */
function samples(session) {
  const buttons = session.config.samples.map(({ label, url }) => {
    const picture = element("img", { src: url, alt: "", width: 28, height: 28 });
    const button = element("button", { type: "button", class: "sample", title: label, "aria-label": `Sample: ${label}` }, picture);
    button.addEventListener("click", async () => {
      const response = await fetch(url);
      session.show({ name: `sample: ${label}`, body: await response.blob(), raw: false, origin: "sample" });
    });
    return button;
  });
  if (!buttons.length) return "";
  return element("div", { class: "samples", role: "group", "aria-label": "Samples" }, ...buttons);
}

// How the picture became what the network takes: every step, and the final pixels.

import { byId, element, fill } from "../parts/dom.js";
import { Maps } from "../parts/maps.js";

/** @import { Session } from "../service/session.js" */

/** @type {Record<string, string>} */
const MODES = {
  auto: "automatic",
  always: "always, for small negatives too",
  paper: "the data set’s own steps",
  none: "scaled and centred only",
};

/**
 * @param {Session} session
 */
export function showPreparation(session) {
  const section = byId("preparation");
  const steps = element("div", { class: "steps", role: "group", "aria-label": "Stop after this step" });
  const pixels = element("div", {});
  const problem = element("div", {});
  section.hidden = false;
  section.append(modes(session), problem, element("div", { class: "prepared with-picture" }, steps, pixels));
  /** @type {Maps | null} */
  let maps = null;
  session.addEventListener("start", () => fill(problem));
  session.addEventListener("explanation", () => {
    const { explanation } = session;
    if (!explanation) return;
    section.classList.remove("needs-picture");
    showSteps(session, steps);
    if (!maps) {
      maps = pixelsOf(explanation.input.shape);
      fill(pixels, element("h3", {}, "What the network takes"), maps.root);
    }
    maps.set(explanation.input.values, 255);
  });
  session.addEventListener("explanation-failure", () => {
    const message = `There is an answer, and nothing that explains it: ${session.unexplained?.message}`;
    fill(problem, element("p", { class: "message", role: "alert" }, message));
  });
}

/**
 * @param {Session} session
 */
function modes(session) {
  const choices = session.config.modes.map((mode) => {
    const radio = element("input", { type: "radio", name: "mode", value: mode, checked: mode === session.mode });
    radio.addEventListener("change", () => session.prepare(mode));
    return element("label", { class: "check" }, radio, ` ${MODES[mode] ?? mode}`);
  });
  return element("fieldset", { class: "modes" }, element("legend", {}, "Prepare"), ...choices);
}

/**
 * @param {Session} session
 * @param {HTMLElement} list
 */
function showSteps(session, list) {
  const { steps, stop } = session;
  const focused = [...list.children].indexOf(/** @type {Element} */ (document.activeElement));
  fill(
    list,
    ...steps.map(({ step, width, height, png }, place) => {
      const last = place === steps.length - 1;
      const chosen = stop === null ? last : stop === place;
      const picture = element("canvas", { width, height, "aria-hidden": "true" });
      draw(picture, png);
      const button = element(
        "button",
        { type: "button", class: "step", "aria-pressed": String(chosen) },
        picture,
        element("span", {}, `${place + 1}. ${step}`),
      );
      button.addEventListener("click", () => session.stopAfter(last ? null : place));
      return button;
    }),
  );
  if (focused >= 0) /** @type {HTMLElement | undefined} */ (list.children[focused])?.focus();
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {string} base64 a PNG; an image of a data: URL is not for this page
 */
async function draw(canvas, base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  canvas.getContext("2d")?.drawImage(await createImageBitmap(new Blob([bytes], { type: "image/png" })), 0, 0);
}

/**
 * @param {number[]} shape
 */
function pixelsOf(shape) {
  const [channels, height, width] = shape;
  /** @type {Maps} */
  const maps = new Maps({
    label: `The network’s pixels, ${height} by ${width}. Arrow keys move.`,
    shape: [channels, height, width],
    scale: "gray",
    cell: 10,
    describe: (cell) => `row ${cell.row + 1}, column ${cell.column + 1}: ${maps.valueAt(cell)}`,
  });
  return maps;
}

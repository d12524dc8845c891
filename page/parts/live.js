// What a screen reader says of its own accord: the newest news alone, and not every one of sixty a second.

import { byId } from "./dom.js";

const PAUSE_MS = 500;
let timer = 0;

/**
 * @param {string} text
 */
export function announce(text) {
  window.clearTimeout(timer);
  timer = window.setTimeout(() => {
    byId("live").textContent = text;
  }, PAUSE_MS);
}

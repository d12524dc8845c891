// The key that the server may ask for. It is held in memory alone: a reload forgets it.

import { element } from "../parts/dom.js";

let key = "";
/** @type {Promise<boolean> | null} */
let asking = null;
/** Says "change" when another key is there. */
export const changes = new EventTarget();

/** The header that carries the key, where there is one. */
export function authorization() {
  /** @type {Record<string, string>} */
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  return headers;
}

export function hasKey() {
  return key !== "";
}

/**
 * Ask for a key. Whoever asks meanwhile waits for the same answer.
 * @param {string} why a sentence
 * @returns {Promise<boolean>} whether one was given
 */
export function askForKey(why) {
  asking ??= shown(why).finally(() => (asking = null));
  return asking;
}

/**
 * @param {string} why
 * @returns {Promise<boolean>}
 */
function shown(why) {
  const field = element("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: false,
    required: true,
    "aria-describedby": "key-why",
  });
  const use = element("button", { class: "primary", type: "submit" }, "Use this key");
  const without = element("button", { type: "button" }, "Go on without");
  const form = element(
    "form",
    {},
    element("h2", { id: "key-title" }, "This server asks for a key"),
    element("p", { id: "key-why" }, why),
    element("label", { for: "key" }, "Key"),
    field,
    element("p", { class: "hint" }, "It stays in this page’s memory and is gone after a reload."),
    element("div", { class: "buttons" }, use, without),
  );
  const dialog = element("dialog", { "aria-labelledby": "key-title" }, form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      // What is pasted often ends with a line break, and no key has blanks.
      key = field.value.trim();
      dialog.close();
    });
    without.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      const given = field.value.trim() !== "" && key === field.value.trim();
      dialog.remove();
      resolve(given);
      if (given) changes.dispatchEvent(new Event("change"));
    });
    dialog.showModal();
  });
}

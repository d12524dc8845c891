// Elements without markup as text: nothing of a file's name or an answer can become code.

/**
 * @typedef {Node | string | null | undefined | false} Child
 */

/**
 * Make an element. Properties that the element has are set (`disabled`, `value`, `onclick`), all others become
 * attributes (`aria-label`, `for`).
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") made.className = String(value);
    else if (name in made && name !== "list" && name !== "role") Reflect.set(made, name, value);
    else made.setAttribute(name, String(value));
  }
  append(made, children);
  return made;
}

/**
 * Replace what an element holds.
 * @param {Element} parent
 * @param {...Child} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

/**
 * @param {Element} parent
 * @param {Child[]} children
 */
function append(parent, children) {
  parent.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
}

/**
 * The element of the page with this id, which is there by index.html.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new RangeError(`the page has no #${id}`);
  return found;
}

/**
 * A table of text; the first cell of each row is its header.
 * @param {string} caption
 * @param {string[]} head
 * @param {Child[][]} rows
 */
export function table(caption, head, rows) {
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element(
      "tbody",
      {},
      ...rows.map(([first, ...rest]) =>
        element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((cell) => element("td", {}, cell))),
      ),
    ),
  );
}

/**
 * Something that may be wider than its place: it scrolls, by keyboard too.
 * @param {string} label
 * @param {...Child} children
 */
export function scrolling(label, ...children) {
  return element("div", { class: "scrolling", tabIndex: 0, role: "region", "aria-label": label }, ...children);
}

/**
 * Offer a file to keep.
 * @param {string} name
 * @param {string} type
 * @param {string} text
 */
export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  // Not at once: the browser reads it after the click.
  window.setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

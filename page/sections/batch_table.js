// The table of many files' answers, which sorts itself by the column whose head is pressed.

import { percent } from "../computed/numbers.js";
import { probabilityOf, sorted } from "../computed/rows.js";
import { element, fill, scrolling } from "../parts/dom.js";

/** @import { Column, Row } from "../computed/rows.js" */

/** @type {[Column, string][]} */
const COLUMNS = [
  ["file", "File"],
  ["label", "Answer"],
  ["probability", "Probability"],
  ["unknown", "Unknown"],
];

export class RowTable {
  /**
   * @param {File[]} files
   * @param {(file: File) => void} open puts one of them through
   */
  constructor(files, open) {
    this.files = files;
    this.open = open;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Column} */
    this.column = "file";
    this.descending = false;
    /** @type {Map<Row, HTMLTableRowElement>} */
    this.shown = new Map();
    this.heads = COLUMNS.map(([column, text]) => {
      const button = element("button", { type: "button", onclick: () => this.sort(column) }, text);
      return element("th", { scope: "col" }, button);
    });
    this.body = element("tbody", {});
    const head = element("tr", {}, element("th", { scope: "col" }, "Picture"), ...this.heads);
    this.root = scrolling("Answers", element("table", { class: "rows" }, element("thead", {}, head), this.body));
  }

  /**
   * @param {Row[]} rows those before and more
   */
  set(rows) {
    this.rows = sorted(rows, this.column, this.descending);
    this.heads.forEach((head, place) => {
      const order = COLUMNS[place][0] === this.column ? (this.descending ? "descending" : "ascending") : "none";
      head.setAttribute("aria-sort", order);
    });
    fill(this.body, ...this.rows.map((row) => this.elementOf(row)));
  }

  /**
   * @param {Column} column
   */
  sort(column) {
    this.descending = column === this.column ? !this.descending : column === "probability" || column === "unknown";
    this.column = column;
    this.set(this.rows);
  }

  /**
   * @param {Row} row
   */
  elementOf(row) {
    let made = this.shown.get(row);
    if (!made) {
      const file = this.files[row.place];
      const name = element("button", { type: "button", class: "link", onclick: () => this.open(file) }, row.file);
      const picture = element("td", { class: "thumbnail" }, row.prediction && thumbnail(file));
      made = element("tr", {}, picture, element("th", { scope: "row" }, name), ...this.cells(row));
      this.shown.set(row, made);
    }
    return made;
  }

  /**
   * @param {Row} row
   */
  cells(row) {
    const { prediction, error } = row;
    if (!prediction) return [element("td", { colSpan: 3, class: "error" }, error)];
    const score = prediction.unknown_score === undefined ? "" : prediction.unknown_score.toFixed(1);
    return [
      element("td", {}, prediction.label),
      element("td", { class: "number" }, percent(probabilityOf(row) ?? 0)),
      element("td", { class: "number" }, prediction.unknown ? `unknown, ${score}` : score),
    ];
  }
}

/**
 * @param {File} file
 */
function thumbnail(file) {
  const url = URL.createObjectURL(file);
  const image = element("img", { alt: "", width: 40, height: 40, loading: "lazy", decoding: "async", src: url });
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  // Not every browser knows every format that the server takes.
  image.addEventListener("error", () => image.remove());
  return image;
}

// Where the network looked: what happens to the answer's probability when a part of the picture is black.

import { fixed, percent } from "../computed/numbers.js";
import { byId, element, fill } from "../parts/dom.js";
import { largest, Maps } from "../parts/maps.js";

/** @import { Session } from "../service/session.js" */
/** @import { Cell, Explanation } from "../types.d.ts" */

/**
 * @param {Session} session
 */
export function showWhy(session) {
  const section = byId("why");
  const view = element("div", { class: "side-by-side" });
  const summary = element("p", {});
  section.hidden = false;
  section.append(summary, view);
  /** @type {Why | null} */
  let why = null;
  session.addEventListener("explanation", () => {
    const { explanation } = session;
    if (!explanation?.occlusion) return;
    section.classList.remove("needs-picture");
    if (!why) {
      why = new Why(explanation);
      fill(view, why.root);
    }
    why.show(explanation);
    fill(summary, why.summary(explanation));
  });
}

class Why {
  /**
   * @param {Explanation} explanation
   */
  constructor(explanation) {
    const [channels, height, width] = explanation.input.shape;
    const [rows, columns] = /** @type {NonNullable<Explanation["occlusion"]>} */ (explanation.occlusion).shape;
    this.explanation = explanation;
    /** @type {Maps} */
    this.image = new Maps({
      label: `What the network takes, ${height} by ${width} pixels. Arrow keys move.`,
      shape: [channels, height, width],
      scale: "gray",
      cell: 10,
      describe: (cell) => `row ${cell.row + 1}, column ${cell.column + 1}: ${this.image.valueAt(cell)}`,
      choose: (cell) => this.over(this.nearest(cell)),
      point: (cell) => this.over(cell ? this.nearest(cell) : this.map.chosen),
    });
    /** @type {Maps} */
    this.map = new Maps({
      label: `How the probability falls, ${rows} by ${columns} places of the window. Arrow keys move.`,
      shape: [1, rows, columns],
      scale: "diverging",
      cell: (10 * width) / columns,
      describe: (cell) => this.inWords(cell),
      choose: (cell) => this.over(cell),
      point: (cell) => this.over(cell ?? this.map.chosen),
    });
    this.root = element(
      "div",
      { class: "pair" },
      element("figure", {}, element("figcaption", {}, "The picture, and the window"), this.image.root),
      element("figure", {}, element("figcaption", {}, "How the probability falls"), this.map.root),
    );
  }

  /**
   * @param {Explanation} explanation
   */
  show(explanation) {
    this.explanation = explanation;
    this.image.set(explanation.input.values, 255);
    const { values } = this.occlusion;
    // A tenth at least: of an answer that nothing shakes the map is pale.
    this.map.set(values, Math.max(0.1, largest(values)));
    this.over(this.map.chosen);
  }

  get occlusion() {
    return /** @type {NonNullable<Explanation["occlusion"]>} */ (this.explanation.occlusion);
  }

  /**
   * Outline the window of a cell of the map.
   * @param {Cell | null} cell
   */
  over(cell) {
    if (!cell) return this.image.outline([]);
    const { window: side, stride } = this.occlusion;
    this.image.outline([{ map: 0, row: cell.row * stride, column: cell.column * stride, height: side, width: side }]);
    if (cell !== this.map.chosen) this.map.outline([{ map: 0, row: cell.row, column: cell.column, height: 1, width: 1 }]);
  }

  /**
   * The window whose middle is nearest to a pixel.
   * @param {Cell} pixel
   * @returns {Cell}
   */
  nearest(pixel) {
    const { window: side, stride, shape } = this.occlusion;
    const [row, column] = [pixel.row, pixel.column].map((place, axis) =>
      Math.min(shape[axis] - 1, Math.max(0, Math.round((place - side / 2 + 0.5) / stride))),
    );
    return { map: 0, row, column };
  }

  /**
   * @param {Cell} cell
   */
  inWords(cell) {
    const { window: side, stride } = this.occlusion;
    const { label, probabilities } = this.explanation.prediction;
    const drop = this.map.valueAt(cell);
    const rows = `rows ${cell.row * stride + 1}–${cell.row * stride + side}, columns ${cell.column * stride + 1}–${cell.column * stride + side}`;
    return `${rows} black: ${label} ${percent(Math.max(0, probabilities[label] - drop))}, ${change(drop)}`;
  }

  /**
   * @param {Explanation} explanation
   */
  summary({ prediction }) {
    const { window: side, shape, values } = this.occlusion;
    const most = Math.max(...values);
    const place = values.indexOf(most);
    const cell = { map: 0, row: Math.floor(place / shape[1]), column: place % shape[1] };
    if (most < 0.01) return `Wherever a window of ${side} × ${side} pixels is black, it stays ${prediction.label}.`;
    return `The part that matters most: ${this.inWords(cell)}.`;
  }
}

/**
 * @param {number} drop
 */
function change(drop) {
  const points = fixed(Math.abs(100 * drop), 1);
  return drop >= 0 ? `${points} points less` : `${points} points more`;
}

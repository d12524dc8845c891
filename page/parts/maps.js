// Maps of a layer side by side on one canvas, in which one cell can be chosen by pointer and by keyboard.

import { colourTable, stepOf } from "../computed/colours.js";
import { element } from "./dom.js";

/** @import { Cell } from "../types.d.ts" */
/** @import { Scale } from "../computed/colours.js" */

const GAP = 6;
const PAUSE_MS = 250;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
/** @type {Record<string, [number, number]>} */
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * @typedef {object} Options
 * @property {string} label what a screen reader calls it
 * @property {[number, number, number]} shape maps, height, width
 * @property {Scale} scale
 * @property {number} [cell] the largest side of a cell, in CSS pixels
 * @property {(cell: Cell) => string} describe a cell in words
 * @property {(cell: Cell) => void} [choose] called where a cell is clicked or moved to
 * @property {(cell: Cell | null) => void} [point] called where the pointer is over a cell, or left
 */

/**
 * @typedef {object} Window part of a map that is outlined
 * @property {number} map
 * @property {number} row
 * @property {number} column
 * @property {number} height
 * @property {number} width
 */

export class Maps {
  /**
   * @param {Options} options
   */
  constructor(options) {
    this.options = options;
    /** @type {ArrayLike<number>} */
    this.values = [];
    this.most = 1;
    /** @type {Cell | null} */
    this.chosen = null;
    /** @type {Window[]} */
    this.windows = [];
    this.readout = element("output", { class: "readout", "aria-live": "off" });
    this.canvas = element("canvas", {
      tabIndex: 0,
      role: "application",
      "aria-roledescription": "map",
      "aria-label": options.label,
    });
    this.box = element("div", { class: "maps" }, this.canvas);
    this.root = element("div", { class: "maps-with-readout" }, this.box, this.readout);
    this.buffer = document.createElement("canvas");
    this.layout = { across: 1, cell: 1 };
    new ResizeObserver(() => this.measure()).observe(this.box);
    /** Whether it is on the screen: what is not follows a drawing less often. */
    this.near = false;
    this.later = 0;
    new IntersectionObserver(([entry]) => {
      this.near = entry.isIntersecting;
      if (this.near) this.colour();
    }).observe(this.box);
    dark.addEventListener("change", () => this.colour());
    this.canvas.addEventListener("keydown", (event) => this.press(event));
    this.canvas.addEventListener("focus", () => this.take(this.chosen ?? { map: 0, row: 0, column: 0 }));
    this.canvas.addEventListener("pointerdown", (event) => this.click(event));
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => this.leave());
  }

  /**
   * Show other values.
   * @param {ArrayLike<number>} values flat: map by map, row by row
   * @param {number} [most] the largest magnitude of the scale; by default that of the values
   */
  set(values, most) {
    this.values = values;
    this.most = most ?? largest(values);
    if (this.near) this.colour();
    else this.later ||= window.setTimeout(() => this.colour(), PAUSE_MS);
    if (this.chosen) this.say(this.chosen);
  }

  /**
   * Outline parts of maps.
   * @param {Window[]} windows
   */
  outline(windows) {
    if (!windows.length && !this.windows.length) return;
    this.windows = windows;
    this.paint();
  }

  /**
   * Choose a cell without telling `choose`.
   * @param {Cell | null} cell
   */
  mark(cell) {
    if (!cell && !this.chosen) return;
    this.chosen = cell;
    if (cell) this.say(cell);
    this.paint();
  }

  /**
   * @param {Cell} cell
   */
  take(cell) {
    this.mark(cell);
    this.options.choose?.(cell);
  }

  /**
   * @param {Cell} cell
   */
  valueAt(cell) {
    const [, height, width] = this.options.shape;
    return this.values[(cell.map * height + cell.row) * width + cell.column] ?? 0;
  }

  /**
   * @param {Cell} cell
   */
  say(cell) {
    const text = this.options.describe(cell);
    this.readout.textContent = text;
    // It is the canvas that has the focus, and its name is what is read when it changes.
    this.canvas.setAttribute("aria-description", text);
  }

  measure() {
    const [maps, height, width] = this.options.shape;
    const room = this.box.clientWidth;
    if (!room) return;
    const most = this.options.cell ?? 8;
    // As many maps side by side as fit with cells of a good size; then cells as large as they get.
    const wish = Math.min(most, Math.max(2.5, most * 0.6));
    let across = Math.max(1, Math.min(maps, Math.floor((room + GAP) / (width * wish + GAP))));
    // No ragged last row where it can be helped.
    while (across > 1 && maps % across) across--;
    const cell = Math.min(most, (room - GAP * (across - 1)) / (across * width));
    this.layout = { across, cell };
    const down = Math.ceil(maps / across);
    const [wide, high] = [across * width * cell + GAP * (across - 1), down * height * cell + GAP * (down - 1)];
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(wide * scale);
    this.canvas.height = Math.round(high * scale);
    this.canvas.style.width = `${wide}px`;
    this.canvas.style.height = `${high}px`;
    this.paint();
  }

  paint() {
    const context = this.canvas.getContext("2d");
    if (!context || !this.values.length || !this.canvas.width) return;
    const [maps, height, width] = this.options.shape;
    const scale = this.canvas.width / parseFloat(this.canvas.style.width);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const { cell } = this.layout;
    for (let map = 0; map < maps; map++) {
      const { x, y } = this.cornerOf(map);
      context.drawImage(this.buffer, 0, map * height, width, height, x, y, width * cell, height * cell);
    }
    const ink = dark.matches ? "#ffffff" : "#000000";
    const paper = dark.matches ? "#000000" : "#ffffff";
    for (const one of this.windows) this.frame(context, one, ink, paper, 1.5);
    if (this.chosen) this.frame(context, { ...this.chosen, height: 1, width: 1 }, ink, paper, 2);
  }

  /** Turn the values into colours, one pixel each, for `paint` to enlarge. */
  colour() {
    window.clearTimeout(this.later);
    this.later = 0;
    const [maps, height, width] = this.options.shape;
    this.buffer.width = width;
    this.buffer.height = height * maps;
    const image = new ImageData(width, height * maps);
    const colours = colourTable(this.options.scale, dark.matches);
    for (let place = 0; place < width * height * maps; place++) {
      const step = 3 * stepOf(this.values[place] ?? 0, this.options.scale, this.most);
      image.data[4 * place] = colours[step];
      image.data[4 * place + 1] = colours[step + 1];
      image.data[4 * place + 2] = colours[step + 2];
      image.data[4 * place + 3] = 255;
    }
    this.buffer.getContext("2d")?.putImageData(image, 0, 0);
    this.paint();
  }

  /**
   * An outline that is seen on every colour: dark within light.
   * @param {CanvasRenderingContext2D} context
   * @param {Window} part
   * @param {string} ink
   * @param {string} paper
   * @param {number} thick
   */
  frame(context, part, ink, paper, thick) {
    const { cell } = this.layout;
    const { x, y } = this.cornerOf(part.map);
    const box = /** @type {const} */ ([x + part.column * cell, y + part.row * cell, part.width * cell, part.height * cell]);
    context.lineWidth = thick + 2;
    context.strokeStyle = paper;
    context.strokeRect(...box);
    context.lineWidth = thick;
    context.strokeStyle = ink;
    context.strokeRect(...box);
  }

  /**
   * @param {number} map
   */
  cornerOf(map) {
    const [, height, width] = this.options.shape;
    const { across, cell } = this.layout;
    return { x: (map % across) * (width * cell + GAP), y: Math.floor(map / across) * (height * cell + GAP) };
  }

  /**
   * @param {PointerEvent} event
   * @returns {Cell | null}
   */
  cellAt(event) {
    const [maps, height, width] = this.options.shape;
    const { across, cell } = this.layout;
    const [column, row] = [event.offsetX / (width * cell + GAP), event.offsetY / (height * cell + GAP)].map(Math.floor);
    const map = row * across + column;
    if (column < 0 || row < 0 || column >= across || map >= maps) return null;
    const corner = this.cornerOf(map);
    const inside = { map, row: Math.floor((event.offsetY - corner.y) / cell), column: Math.floor((event.offsetX - corner.x) / cell) };
    return inside.row < 0 || inside.column < 0 || inside.row >= height || inside.column >= width ? null : inside;
  }

  /**
   * @param {PointerEvent} event
   */
  click(event) {
    const cell = this.cellAt(event);
    if (cell) this.chosen = cell;
    // The focus comes after this, and takes what is chosen; where it is there already, it is taken here.
    if (cell && document.activeElement === this.canvas) this.take(cell);
  }

  /**
   * @param {PointerEvent} event
   */
  hover(event) {
    // Whoever draws does not read.
    if (event.buttons) return;
    const cell = this.cellAt(event);
    if (cell) this.readout.textContent = this.options.describe(cell);
    this.options.point?.(cell);
  }

  leave() {
    this.readout.textContent = this.chosen ? this.options.describe(this.chosen) : "";
    this.options.point?.(null);
  }

  /**
   * @param {KeyboardEvent} event
   */
  press(event) {
    const [maps, height, width] = this.options.shape;
    const from = this.chosen ?? { map: 0, row: 0, column: 0 };
    const move = MOVES[event.key];
    let to = null;
    if (move) {
      const [row, column] = [from.row + move[0], from.column + move[1]];
      // Past a side the next map follows, as it is laid out.
      const map = from.map + (column < 0 ? -1 : column >= width ? 1 : row < 0 ? -this.layout.across : row >= height ? this.layout.across : 0);
      if (map < 0 || map >= maps) to = from;
      else to = { map, row: (row + height) % height, column: (column + width) % width };
    } else if (event.key === "PageDown") to = { ...from, map: Math.min(maps - 1, from.map + 1) };
    else if (event.key === "PageUp") to = { ...from, map: Math.max(0, from.map - 1) };
    else if (event.key === "Home") to = { ...from, row: 0, column: 0 };
    else if (event.key === "End") to = { ...from, row: height - 1, column: width - 1 };
    if (!to) return;
    event.preventDefault();
    this.take(to);
  }
}

/**
 * The largest magnitude of values; 1 where all are 0.
 * @param {ArrayLike<number>} values
 */
export function largest(values) {
  let most = 0;
  for (let place = 0; place < values.length; place++) most = Math.max(most, Math.abs(values[place]));
  return most || 1;
}

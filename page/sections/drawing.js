// The drawing grid: the network's own pixels, a soft brush, by pointer and by keyboard.

import { stroke } from "../computed/brush.js";
import { byId, element } from "../parts/dom.js";
import { Maps } from "../parts/maps.js";

/** @import { Session } from "../service/session.js" */
/** @import { Cell } from "../types.d.ts" */

const UNDOS = 50;

/**
 * @param {Session} session
 */
export function showDrawing(session) {
  const section = byId("draw");
  section.hidden = false;
  section.append(new Drawing(session).root);
}

class Drawing {
  /**
   * @param {Session} session
   */
  constructor(session) {
    this.session = session;
    const { height, width } = session.config.task.geometry;
    this.width = width;
    this.pixels = new Uint8Array(height * width);
    /** @type {Uint8Array[]} */
    this.before = [];
    /** @type {{x: number, y: number} | null} */
    this.last = null;
    this.radius = element("input", { type: "range", id: "radius", min: "0.5", max: "3", step: "0.25", value: "1.25" });
    this.eraser = element("input", { type: "checkbox", id: "eraser" });
    this.undo = element("button", { type: "button", disabled: true, onclick: () => this.back() }, "Undo");
    this.clear = element("button", { type: "button", onclick: () => this.empty() }, "Clear");
    this.edit = element("button", { type: "button", disabled: true, onclick: () => this.take() }, "Draw on the picture");
    this.maps = new Maps({
      label: `Drawing grid of ${height} by ${width} pixels. Arrow keys move, the space bar draws, Delete erases.`,
      shape: [1, height, width],
      scale: "gray",
      cell: 11,
      describe: (cell) => `row ${cell.row + 1}, column ${cell.column + 1}: ${this.pixels[cell.row * width + cell.column]}`,
    });
    this.listen();
    this.maps.set(this.pixels, 255);
    this.root = element("div", { class: "pad" }, this.maps.root, this.tools());
    session.addEventListener("explanation", () => (this.edit.disabled = session.source?.origin === "drawing"));
  }

  tools() {
    return element(
      "div",
      { class: "tools" },
      element("label", { for: "radius" }, "Brush"),
      this.radius,
      element("label", { class: "check", for: "eraser" }, this.eraser, " Eraser"),
      element("div", { class: "buttons" }, this.undo, this.clear, this.edit),
      element("p", { class: "hint" }, "By keyboard: arrow keys move, ", element("kbd", {}, "Space"), " draws, ", element("kbd", {}, "Delete"), " erases; hold ", element("kbd", {}, "Shift"), " to draw on the way."),
    );
  }

  listen() {
    const { canvas } = this.maps;
    canvas.classList.add("draw");
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      // The choice of a cell is for the keyboard; a pointer draws.
      canvas.setPointerCapture(event.pointerId);
      this.keep();
      this.last = this.pointsOf([event])[0];
      this.draw([this.last]);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.last) return;
      const all = event.getCoalescedEvents?.() ?? [];
      this.draw(this.pointsOf(all.length ? all : [event]));
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.last = null));
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  /**
   * @param {PointerEvent[]} events
   */
  pointsOf(events) {
    const { cell } = this.maps.layout;
    const box = this.maps.canvas.getBoundingClientRect();
    return events.map(({ clientX, clientY }) => ({ x: (clientX - box.left) / cell, y: (clientY - box.top) / cell }));
  }

  /**
   * @param {{x: number, y: number}[]} points
   * @param {boolean} [erase]
   */
  draw(points, erase = this.eraser.checked) {
    for (const point of points) {
      stroke(this.pixels, this.width, this.last ?? point, point, { radius: this.radius.valueAsNumber, erase });
      if (this.last) this.last = point;
    }
    this.changed();
  }

  /**
   * @param {KeyboardEvent} event
   */
  press(event) {
    const cell = this.maps.chosen;
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      return this.back();
    }
    if (!cell) return;
    const erases = event.key === "Delete" || event.key === "Backspace";
    const moves = event.shiftKey && event.key.startsWith("Arrow");
    if (event.key !== " " && !erases && !moves) return;
    event.preventDefault();
    if (!event.repeat) this.keep();
    this.dot(cell, erases || this.eraser.checked);
  }

  /**
   * @param {Cell} cell
   * @param {boolean} erase
   */
  dot(cell, erase) {
    this.draw([{ x: cell.column + 0.5, y: cell.row + 0.5 }], erase);
  }

  keep() {
    this.before.push(this.pixels.slice());
    if (this.before.length > UNDOS) this.before.shift();
    this.undo.disabled = false;
  }

  back() {
    const before = this.before.pop();
    if (!before) return;
    this.pixels.set(before);
    this.undo.disabled = !this.before.length;
    this.changed();
  }

  empty() {
    this.keep();
    this.pixels.fill(0);
    this.changed();
  }

  /** Go on with what the network saw of another picture. */
  take() {
    const { explanation } = this.session;
    if (!explanation) return;
    this.keep();
    this.pixels.set(explanation.input.values);
    this.changed();
  }

  changed() {
    this.maps.set(this.pixels, 255);
    this.session.draw({ name: "drawing", body: new Blob([this.pixels]), raw: true, origin: "drawing" });
  }
}

// The picture's way through the layers. A chosen cell is written out as arithmetic, and its window outlined.

import { described, found, threeOf } from "../computed/arithmetic.js";
import { fixed, times } from "../computed/numbers.js";
import { byId, element, fill } from "../parts/dom.js";
import { largest, Maps } from "../parts/maps.js";
import { Arithmetic } from "./cell.js";

/** @import { Session } from "../service/session.js" */
/** @import { Cell, Explanation, LayerDescription, Network } from "../types.d.ts" */

/** Where a cell is chosen, and which: the filter section follows. */
export const selection = new EventTarget();

/** Values in a row of a vector that has no maps before it. */
const ACROSS = 20;

/**
 * @param {Session} session
 * @param {Network} network
 */
export function showNetwork(session, network) {
  // An activation changes each value by itself: what it makes stands in the arithmetic of the layer after it.
  const shown = network.layers.filter(({ kind }) => kind !== "activation");
  const arithmetic = new Arithmetic(network);
  /** @type {Map<string, Row>} */
  const rows = new Map();
  const list = element("div", { class: "layers" });
  const section = byId("network");
  const view = new View(session, network, rows, arithmetic, list);
  for (const layer of shown) rows.set(layer.name, new Row(network, layer, (cell) => view.choose(layer, cell)));
  fill(list, ...[...rows.values()].map(({ root }) => root));
  section.hidden = false;
  section.append(element("div", { class: "network with-picture" }, list, arithmetic.root));
  session.addEventListener("explanation", () => {
    section.classList.remove("needs-picture");
    if (session.explanation) view.show(session.explanation);
  });
}

class View {
  /**
   * @param {Session} session
   * @param {Network} network
   * @param {Map<string, Row>} rows
   * @param {Arithmetic} arithmetic
   * @param {HTMLElement} list
   */
  constructor(session, network, rows, arithmetic, list) {
    this.session = session;
    this.network = network;
    this.rows = rows;
    this.arithmetic = arithmetic;
    this.list = list;
    /** @type {{layer: LayerDescription, cell: Cell} | null} */
    this.chosen = null;
    /** @type {number | null} */
    this.frame = null;
    this.narrow = window.matchMedia("(max-width: 60rem)");
    this.narrow.addEventListener("change", () => this.place());
  }

  /**
   * @param {Explanation} explanation
   */
  show(explanation) {
    for (const row of this.rows.values()) row.show(explanation);
    this.write();
  }

  /**
   * @param {LayerDescription} layer
   * @param {Cell} cell in the layer's own shape
   */
  choose(layer, cell) {
    const { explanation } = this.session;
    if (!explanation) return;
    for (const [name, row] of this.rows) {
      if (name !== layer.name) row.maps.mark(null);
      row.maps.outline([]);
    }
    this.chosen = { layer, cell };
    this.place();
    this.write();
    this.outline(layer, cell);
  }

  /** Write the arithmetic of the chosen cell, once a frame: a key that is held down asks for more. */
  write() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const { explanation } = this.session;
      if (!explanation) return;
      if (!this.chosen) return this.arithmetic.invite();
      this.arithmetic.show(explanation, this.chosen.layer, this.chosen.cell);
      selection.dispatchEvent(new CustomEvent("choose", { detail: this.chosen }));
    });
  }

  /**
   * Outline what the cell was computed from, in the row that shows it.
   * @param {LayerDescription} layer
   * @param {Cell} cell
   */
  outline(layer, cell) {
    if (layer.kind === "normalized" || layer.kind === "probabilities" || layer.kind === "linear") return;
    let from = described(this.network, layer.from);
    while (from.kind === "activation") from = described(this.network, from.from);
    const row = this.rows.get(from.name);
    const [maps, height, width] = threeOf(from.shape);
    if (layer.kind === "conv") {
      const [, , size, across] = this.network.weights[/** @type {string} */ (layer.weight)].shape;
      const part = { row: cell.row, column: cell.column, height: size, width: across };
      row?.maps.outline(Array.from({ length: maps }, (_, map) => ({ map, ...part })));
    } else if (layer.kind === "pool") {
      const size = this.network.pool;
      row?.maps.outline([{ map: cell.map, row: cell.row * size, column: cell.column * size, height: size, width: size }]);
    } else if (layer.kind === "flatten") {
      const map = Math.floor(cell.column / (height * width));
      const rest = cell.column % (height * width);
      row?.maps.outline([{ map, row: Math.floor(rest / width), column: rest % width, height: 1, width: 1 }]);
    }
  }

  /** On a narrow screen the arithmetic stands below the layer, for it would be out of sight. */
  place() {
    const row = this.chosen && this.rows.get(this.chosen.layer.name);
    if (this.narrow.matches && row) row.root.after(this.arithmetic.root);
    else this.list.after(this.arithmetic.root);
  }
}

/** A layer's name, shape and maps. A vector is laid out in rows. */
class Row {
  /**
   * @param {Network} network
   * @param {LayerDescription} layer
   * @param {(cell: Cell) => void} choose
   */
  constructor(network, layer, choose) {
    this.layer = layer;
    this.shape = laidOut(network, layer);
    const isVector = layer.shape.length === 1;
    const own = (/** @type {Cell} */ cell) => (isVector ? { map: 0, row: 0, column: cell.row * this.shape[2] + cell.column } : cell);
    const [maps, height, width] = threeOf(layer.shape);
    const what = isVector ? `${width} values` : `${maps} map${maps === 1 ? "" : "s"} of ${height} by ${width}`;
    /** @type {Maps} */
    this.maps = new Maps({
      label: `${layer.name}: ${what}. Arrow keys move${maps > 1 ? ", Page Up and Page Down change the map" : ""}.`,
      shape: this.shape,
      scale: layer.kind === "conv" || layer.kind === "linear" || layer.kind === "normalized" ? "diverging" : "sequential",
      cell: isVector ? 18 : Math.max(4, Math.min(16, Math.round(120 / width))),
      describe: (cell) => `${placeOf(own(cell), network, layer, isVector)}: ${fixed(this.maps.valueAt(cell), 4)}`,
      choose: (cell) => choose(own(cell)),
    });
    this.scale = element("span", { class: "hint scale" });
    const title = element("h3", {}, layer.name, " ", element("span", { class: "shape" }, times(layer.shape)));
    this.root = element("div", { class: "layer" }, element("div", { class: "layer-head" }, title, this.scale), this.maps.root);
  }

  /**
   * @param {Explanation} explanation
   */
  show(explanation) {
    const { values } = found(explanation, this.layer.name);
    const most = largest(values);
    this.maps.set(values, most);
    const signed = this.maps.options.scale === "diverging";
    fill(this.scale, signed ? `blue ${fixed(-most, 2)} … orange ${fixed(most, 2)}` : `0 … ${fixed(most, 2)}`);
  }
}

/**
 * @param {Cell} cell
 * @param {Network} network
 * @param {LayerDescription} layer
 * @param {boolean} isVector
 */
function placeOf(cell, network, layer, isVector) {
  if (!isVector) return `map ${cell.map + 1}, row ${cell.row + 1}, column ${cell.column + 1}`;
  const named = layer.shape[0] === network.classes.length ? `, ${network.classes[cell.column]}` : "";
  return `value ${cell.column + 1}${named}`;
}

/**
 * A vector in rows: of the flattened tensor each map's values, of others as many rows as leave none ragged.
 * @param {Network} network
 * @param {LayerDescription} layer
 * @returns {[number, number, number]}
 */
function laidOut(network, layer) {
  if (layer.shape.length > 1) return threeOf(layer.shape);
  const [length] = layer.shape;
  if (layer.kind === "flatten") {
    const [maps] = threeOf(described(network, layer.from).shape);
    return [1, maps, length / maps];
  }
  let across = Math.min(ACROSS, length);
  while (length % across) across--;
  return [1, length / across, across];
}

// The table of the layers' arguments, with a copy to change.

import { chosenOf, deriveShapes, MOST } from "../computed/shapes.js";
import { times } from "../computed/numbers.js";
import { byId, element, fill, scrolling, table } from "../parts/dom.js";

/** @import { Derived, Row } from "../computed/shapes.js" */
/** @import { NetworkFile } from "../types.d.ts" */

/**
 * @param {Pick<NetworkFile, "geometry" | "pool" | "classes" | "description">} network
 */
export function showLayers(network) {
  const section = byId("layers");
  section.hidden = false;
  section.append(new Layers(network).root);
}

class Layers {
  /**
   * @param {Pick<NetworkFile, "geometry" | "pool" | "classes" | "description">} network
   */
  constructor(network) {
    this.network = network;
    this.original = deriveShapes(network, chosenOf(network.description.arguments));
    this.chosen = chosenOf(network.description.arguments);
    this.fields = new Map(this.original.rows.filter(({ chosen }) => chosen).map((row) => [nameOf(row), this.field(row)]));
    /** @type {Map<string, HTMLElement>} */
    this.derived = new Map();
    this.problem = element("p", { class: "message", role: "status", hidden: true });
    this.shapes = element("div", { class: "shapes" });
    this.reset = element("button", { type: "button", disabled: true, onclick: () => this.restore() }, "As it was");
    this.root = element(
      "div",
      {},
      element("div", { class: "choices" }, this.reset),
      this.problem,
      element("div", { class: "layers-table" }, scrolling("Arguments", this.arguments())),
      this.shapes,
    );
    this.update();
  }

  /**
   * @param {Row} row
   */
  field(row) {
    const name = nameOf(row);
    const field = element("input", { type: "number", min: "1", max: String(MOST), step: "1", value: row.argument, "aria-label": name });
    field.addEventListener("input", () => {
      this.chosen[name] = field.valueAsNumber;
      this.update();
    });
    return field;
  }

  arguments() {
    const rows = this.original.rows.map((row, place, all) => {
      const name = nameOf(row);
      const shown = element("span", { class: "derived" });
      this.derived.set(name, shown);
      return [
        all[place - 1]?.layer === row.layer ? element("span", { class: "repeated" }, row.layer) : row.layer,
        element("code", {}, row.parameter),
        row.argument,
        this.fields.get(name) ?? shown,
        row.chosen ? element("strong", {}, "hyperparameter") : "data-dependent",
        row.why,
      ];
    });
    return table("Arguments of the layers", ["Layer", "Parameter", "Argument", "In the copy", "Kind", "Why this value"], rows);
  }

  update() {
    const now = deriveShapes(this.network, this.chosen);
    for (const row of now.rows) {
      const shown = this.derived.get(nameOf(row));
      const before = this.original.rows.find((one) => nameOf(one) === nameOf(row));
      if (shown) fill(shown, row.argument);
      shown?.classList.toggle("changed", row.argument !== before?.argument);
      this.fields.get(nameOf(row))?.classList.toggle("changed", row.argument !== before?.argument);
    }
    this.problem.hidden = !now.problem;
    this.problem.textContent = now.problem;
    this.reset.disabled = now.rows.every((row, place) => row.argument === this.original.rows[place].argument);
    fill(this.shapes, shapesOf(now), parametersOf(now, this.original.total));
  }

  restore() {
    this.chosen = chosenOf(this.network.description.arguments);
    for (const [name, field] of this.fields) field.value = String(this.chosen[name]);
    this.update();
    // The button is no longer there to be pressed.
    this.fields.values().next().value?.focus();
  }
}

/**
 * @param {{layer: string, parameter: string}} row
 */
function nameOf({ layer, parameter }) {
  return `${layer}.${parameter}`;
}

/**
 * @param {Derived} derived
 */
function shapesOf({ steps }) {
  return scrolling("Shapes", table("Shape of one image, step by step", ["Step", "Shape"], steps.map(({ step, shape }) => [step, times(shape)])));
}

/**
 * @param {Derived} derived
 * @param {number} before how many parameters there were
 */
function parametersOf({ parameters, total }, before) {
  const rows = parameters.map(({ name, shape, count }) => [element("code", {}, name), times(shape), count.toLocaleString("en")]);
  const change = total - before;
  const text = change ? ` (${change > 0 ? "+" : "−"}${Math.abs(change).toLocaleString("en")})` : "";
  rows.push([element("strong", {}, "total"), "", element("strong", { id: "total-parameters" }, total.toLocaleString("en") + text)]);
  return scrolling("Learnable parameters", table("Learnable parameters", ["Tensor", "Shape", "Count"], rows));
}

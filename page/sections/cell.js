// One cell's arithmetic, written out.

import { derive, found } from "../computed/arithmetic.js";
import { fixed } from "../computed/numbers.js";
import { element, fill, scrolling, table } from "../parts/dom.js";

/** @import { Derivation, Group } from "../computed/arithmetic.js" */
/** @import { Cell, Explanation, LayerDescription, Network } from "../types.d.ts" */

const DIGITS = 4;

export class Arithmetic {
  /**
   * @param {Network} network
   */
  constructor(network) {
    this.network = network;
    this.root = element("aside", { class: "arithmetic", "aria-label": "Arithmetic of the chosen cell" });
    this.open = false;
  }

  invite() {
    fill(this.root, element("h3", {}, "Choose a cell"), element("p", { class: "hint" }, "Its arithmetic stands here: the window under it times the kernel, and the bias."));
  }

  /**
   * @param {Explanation} explanation
   * @param {LayerDescription} layer
   * @param {Cell} cell in the layer's own shape
   */
  show(explanation, layer, cell) {
    const vector = layer.shape.length === 1;
    const place = vector ? `${cell.column + 1}` : `${cell.map + 1}, ${cell.row + 1}, ${cell.column + 1}`;
    const title = element("h3", {}, `${layer.name}[${place}]`);
    const parts = layer.kind === "probabilities" ? this.softmax(explanation, cell) : this.parts(derive(this.network, explanation, layer.name, cell), explanation);
    const values = found(explanation, layer.name).values;
    fill(this.root, title, ...parts, vector ? "" : this.asTable(layer, cell, values));
  }

  /**
   * @param {Derivation} derivation
   * @param {Explanation} explanation
   * @returns {(Node | string)[]}
   */
  parts(derivation, explanation) {
    const { kind, groups, bias, value } = derivation;
    if (kind === "normalized") return this.normalized(groups[0].terms[0].value, value);
    if (kind === "pool") return this.pooled(derivation, explanation);
    if (kind === "flatten") {
      const { at } = groups[0].terms[0];
      const from = `${derivation.from.name}[${at.map + 1}, ${at.row + 1}, ${at.column + 1}]`;
      return [element("p", {}, `The value of ${from}, put in a row with all others.`), total(value)];
    }
    const named = kind === "conv" && groups.length > 1;
    const sums = groups.map((group) => (named ? `kernel ${group.map + 1}: ${fixed(group.sum, DIGITS)}` : fixed(group.sum, DIGITS)));
    const intro =
      kind === "conv"
        ? `The window of ${derivation.from.name} under the cell times the kernel${named ? ", for each of the filter’s kernels" : ""}, plus the bias.`
        : `Each value of ${derivation.from.name} times its weight, plus the bias.`;
    return [
      element("p", {}, intro),
      element("p", { class: "sum", "data-sum": "groups" }, ...sums.flatMap((text, place) => [place ? " + " : "", text]), ` + bias ${fixed(bias, DIGITS)}`),
      total(value),
      ...groups.map((group) => this.products(group, derivation, named)),
    ];
  }

  /**
   * The products of a kernel and its window, as a table with the sum below.
   * @param {Group} group
   * @param {Derivation} derivation
   * @param {boolean} named
   */
  products(group, derivation, named) {
    const { length } = group.terms;
    const title = named ? `Kernel ${group.map + 1}: ${length} products` : `${length} products`;
    const list = element(
      "details",
      { class: "products", open: named ? this.open : true },
      element("summary", {}, `${title}, in sum ${fixed(group.sum, DIGITS)}`),
      derivation.kind === "linear" ? asList(title, group, derivation) : asGrids(group, derivation),
    );
    if (named) list.addEventListener("toggle", () => (this.open = list.open));
    return list;
  }

  /**
   * @param {Derivation} derivation
   * @param {Explanation} explanation
   */
  pooled({ groups, from, value }, explanation) {
    const [group] = groups;
    const before = found(explanation, from.from);
    const activated = from.kind === "activation";
    const name = this.network.activation === "relu" ? "max(0, x)" : this.network.activation;
    const rows = group.terms.map(({ at, value: after }) => {
      const [, height, width] = before.shape;
      const x = before.values[(at.map * height + at.row) * width + at.column];
      return [`${at.row + 1}, ${at.column + 1}`, fixed(x, DIGITS), fixed(after, DIGITS)];
    });
    const texts = group.terms.map(({ value: one }) => fixed(one, DIGITS));
    return [
      element("p", {}, `The largest of the ${texts.length} values under it${activated ? `, after the activation, ${name}` : ""}.`),
      element("p", { class: "sum", "data-sum": "largest" }, `max(${texts.join(", ")})`),
      total(value),
      table("The window", ["Row, column", activated ? from.from : from.name, name], rows),
    ];
  }

  /**
   * @param {number} pixel
   * @param {number} value
   */
  normalized(pixel, value) {
    const { gamma, mean, std } = this.network;
    const power = gamma === 1 ? "" : ` to the power ${gamma}`;
    const scaled = (pixel / 255) ** gamma;
    return [
      element("p", {}, `The pixel, divided by 255${power}, less the data set’s mean, divided by its standard deviation.`),
      element("p", { class: "sum" }, `(${pixel} / 255)${gamma === 1 ? "" : `^${gamma}`} = ${fixed(scaled, DIGITS)}`),
      element("p", { class: "sum" }, `(${fixed(scaled, DIGITS)} − ${fixed(mean, DIGITS)}) / ${fixed(std, DIGITS)}`),
      total(value),
    ];
  }

  /**
   * @param {Explanation} explanation
   * @param {Cell} cell
   */
  softmax(explanation, cell) {
    const { classes, temperature } = this.network;
    const logits = found(explanation, "out").values;
    const most = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp((logit - most) / temperature));
    const sum = powers.reduce((one, other) => one + other, 0);
    const rows = classes.map((name, place) => [name, fixed(logits[place], DIGITS), fixed(powers[place], DIGITS)]);
    return [
      element("p", {}, `Softmax: e to the power of each value of out, divided by the temperature ${fixed(temperature, 3)}, as a share of their sum.`),
      element("p", { class: "sum" }, `${fixed(powers[cell.column], DIGITS)} / ${fixed(sum, DIGITS)}`),
      total(found(explanation, "probabilities").values[cell.column]),
      scrolling("Powers", table("Powers, of which the largest is made 1", ["Class", "out", "Power"], rows)),
    ];
  }

  /**
   * The chosen map as text.
   * @param {LayerDescription} layer
   * @param {Cell} cell
   * @param {number[]} values
   */
  asTable(layer, cell, values) {
    const [, height, width] = layer.shape;
    const title = `Map ${cell.map + 1} of ${layer.name} as a table`;
    const details = element("details", {}, element("summary", {}, title));
    // It is long: only who wants it gets it.
    details.addEventListener("toggle", () => {
      if (!details.open || details.children.length > 1) return;
      const rows = Array.from({ length: height }, (_, row) => [
        String(row + 1),
        ...Array.from({ length: width }, (_, column) => fixed(values[(cell.map * height + row) * width + column], 2)),
      ]);
      const head = ["Row", ...Array.from({ length: width }, (_, column) => String(column + 1))];
      details.append(scrolling(title, table(title, head, rows)));
    });
    return details;
  }
}

/**
 * Of a hundred products, those first that matter.
 * @param {string} title
 * @param {Group} group
 * @param {Derivation} derivation
 */
function asList(title, group, derivation) {
  const ordered = [...group.terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
  const rows = ordered.map(({ value, weight, product, at }) => [
    String(at.column + 1),
    ...[value, weight, product].map((number) => fixed(number, DIGITS)),
  ]);
  return scrolling(title, table(title, ["Value", derivation.from.name, "Weight", "Product"], rows));
}

/**
 * The window, the kernel and their products, each as the square that it is.
 * @param {Group} group
 * @param {Derivation} derivation
 */
function asGrids({ terms }, { from }) {
  const across = terms.filter(({ at }) => at.row === terms[0].at.row).length;
  const most = Math.max(...terms.map(({ product }) => Math.abs(product)));
  const grid = (/** @type {string} */ caption, /** @type {number[]} */ numbers, loud = false) => {
    const cells = numbers.map((number) => {
      const strong = loud && Math.abs(number) > most / 2;
      return element("td", { class: strong ? (number > 0 ? "strong-plus" : "strong-minus") : "" }, fixed(number, DIGITS));
    });
    const rows = Array.from({ length: cells.length / across }, (_, row) => element("tr", {}, ...cells.slice(row * across, (row + 1) * across)));
    return element("table", {}, element("caption", {}, caption), element("tbody", {}, ...rows));
  };
  const [{ at }] = terms;
  return element(
    "div",
    { class: "grids" },
    grid(`Window of ${from.name}, from row ${at.row + 1}, column ${at.column + 1}`, terms.map(({ value }) => value)),
    grid("times the kernel", terms.map(({ weight }) => weight)),
    grid("makes the products", terms.map(({ product }) => product), true),
  );
}

/**
 * @param {number} value
 */
function total(value) {
  return element("p", { class: "total" }, "= ", element("output", { class: "value" }, fixed(value, DIGITS)));
}

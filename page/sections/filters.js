// A filter's kernels, the partial maps that they make, and their sum.

import { described, found, kernel, partialMaps, threeOf } from "../computed/arithmetic.js";
import { counted, fixed, times } from "../computed/numbers.js";
import { byId, element, fill, scrolling, table } from "../parts/dom.js";
import { largest, Maps } from "../parts/maps.js";
import { selection } from "./network.js";

/** @import { Session } from "../service/session.js" */
/** @import { LayerDescription, Network } from "../types.d.ts" */

/**
 * @param {Session} session
 * @param {Network} network
 */
export function showFilters(session, network) {
  const convolutions = network.layers.filter(({ kind }) => kind === "conv");
  if (!convolutions.length) return;
  const section = byId("filters");
  section.hidden = false;
  const filters = new Filters(session, network, convolutions);
  section.append(filters.root);
  filters.show();
  session.addEventListener("explanation", () => filters.update());
  selection.addEventListener("choose", (event) => {
    const { layer, cell } = /** @type {CustomEvent} */ (event).detail;
    if (layer.kind === "conv") filters.select(layer.name, cell.map);
  });
}

class Filters {
  /**
   * @param {Session} session
   * @param {Network} network
   * @param {LayerDescription[]} convolutions
   */
  constructor(session, network, convolutions) {
    this.session = session;
    this.network = network;
    // The last one has several kernels a filter: there the two words differ.
    const last = convolutions[convolutions.length - 1];
    this.layer = element(
      "select",
      { id: "filter-layer", onchange: () => this.select(this.layer.value, 0) },
      ...convolutions.map(({ name, weight }) => element("option", { value: name }, `${name}: ${this.inWords(/** @type {string} */ (weight))}`)),
    );
    this.layer.value = last.name;
    this.filter = element("select", { id: "filter-number", onchange: () => this.show() });
    this.options();
    this.view = element("div", { class: "filter" });
    /** @type {Maps[]} */
    this.partial = [];
    /** @type {Maps | null} */
    this.sum = null;
    this.check = element("p", { class: "hint", id: "filter-check" });
    this.root = element(
      "div",
      {},
      element(
        "div",
        { class: "choices" },
        element("label", { for: "filter-layer" }, "Layer"),
        this.layer,
        element("label", { for: "filter-number" }, "Filter"),
        this.filter,
      ),
      this.view,
      this.check,
    );
  }

  /**
   * @param {string} weight
   */
  inWords(weight) {
    const [filters, kernels, height, width] = this.network.weights[weight].shape;
    return `${counted(filters, "filter")} of ${counted(kernels, "kernel")}, ${times([height, width])}`;
  }

  options() {
    const [filters] = described(this.network, this.layer.value).shape;
    const all = Array.from({ length: filters }, (_, place) => element("option", { value: String(place) }, String(place + 1)));
    fill(this.filter, ...all);
  }

  /**
   * @param {string} name
   * @param {number} filter
   */
  select(name, filter) {
    this.layer.value = name;
    this.options();
    this.filter.value = String(filter);
    this.show();
  }

  /** Build the view of the chosen filter. */
  show() {
    const { network } = this;
    const [name, filter] = [this.layer.value, Number(this.filter.value)];
    const layer = described(network, name);
    const { shape, values } = network.weights[/** @type {string} */ (layer.weight)];
    const [, channels, size, across] = shape;
    const most = largest(values.subarray(filter * channels * size * across, (filter + 1) * channels * size * across));
    const [, height, width] = threeOf(layer.shape);
    this.partial = [];
    const columns = Array.from({ length: channels }, (_, channel) => {
      const weights = kernel(network, name, filter, channel);
      const kernels = small(`Kernel ${channel + 1}`, size, across, 18);
      kernels.set(weights, most);
      const partial = small(`Partial map ${channel + 1}`, height, width, width > 12 ? 5 : 12);
      this.partial.push(partial);
      const head = channels > 1 ? `Kernel ${channel + 1}, for channel ${channel + 1}` : "Its one kernel";
      return element(
        "div",
        { class: "kernel" },
        element("h3", {}, head),
        kernels.root,
        asTable(`${head}, as a table`, weights, size, across),
        element("p", { class: "hint makes" }, "makes"),
        partial.root,
      );
    });
    this.sum = small(`Map of filter ${filter + 1}`, height, width, width > 12 ? 7 : 16);
    const bias = network.weights[/** @type {string} */ (layer.bias)].values[filter];
    fill(
      this.view,
      element("div", { class: "kernels" }, ...columns),
      element(
        "div",
        { class: "kernel-sum" },
        element("h3", {}, `Their sum, and the bias ${fixed(bias, 4)}`),
        element("p", { class: "hint" }, `Output channel ${filter + 1} of ${name}`),
        this.sum.root,
      ),
    );
    this.update();
  }

  /** Show the partial maps of the picture that is there. */
  update() {
    const { explanation } = this.session;
    if (!explanation || !this.sum) return fill(this.check, "Put a picture in to see the partial maps.");
    const [name, filter] = [this.layer.value, Number(this.filter.value)];
    const { partial, sum } = partialMaps(this.network, explanation, name, filter);
    const most = Math.max(...partial.map(largest), largest(sum));
    partial.forEach((values, place) => this.partial[place].set(values, most));
    this.sum.set(sum, most);
    const { values } = found(explanation, name);
    const start = filter * sum.length;
    const difference = sum.reduce((worst, value, place) => Math.max(worst, Math.abs(value - values[start + place])), 0);
    const exponent = difference ? difference.toExponential(0) : "0";
    fill(this.check, `Added up in this browser; the largest difference from what the server’s network computed: ${exponent}.`);
  }
}

/**
 * One map, with its values on hover and focus.
 * @param {string} name
 * @param {number} height
 * @param {number} width
 * @param {number} cell
 */
function small(name, height, width, cell) {
  /** @type {Maps} */
  const maps = new Maps({
    label: `${name}, ${height} by ${width}. Arrow keys move.`,
    shape: [1, height, width],
    scale: "diverging",
    cell,
    describe: (at) => `row ${at.row + 1}, column ${at.column + 1}: ${fixed(maps.valueAt(at), 4)}`,
  });
  return maps;
}

/**
 * @param {string} title
 * @param {ArrayLike<number>} values
 * @param {number} height
 * @param {number} width
 */
function asTable(title, values, height, width) {
  const rows = Array.from({ length: height }, (_, row) => [
    String(row + 1),
    ...Array.from({ length: width }, (_, column) => fixed(values[row * width + column], 3)),
  ]);
  const head = ["Row", ...Array.from({ length: width }, (_, column) => String(column + 1))];
  return element("details", {}, element("summary", {}, "As a table"), scrolling(title, table(title, head, rows)));
}

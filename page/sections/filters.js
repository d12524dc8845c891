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
      { id: "filter-layer", onchange: () => this.first() },
      ...convolutions.map(({ name, weight }) => element("option", { value: name }, `${name}: ${this.inWords(/** @type {string} */ (weight))}`)),
    );
    this.layer.value = last.name;
    this.filter = element("select", { id: "filter-number", onchange: () => this.update() });
    this.options();
    this.view = element("div", { class: "filter" });
    /** @type {Kernel[]} */
    this.kernels = [];
    /** @type {Maps | null} */
    this.sum = null;
    /** The layer whose filters are shown. */
    this.shown = "";
    this.title = element("h3", {});
    this.output = element("p", { class: "hint" });
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

  /** Show the first filter of a layer that was chosen. */
  first() {
    this.options();
    this.show();
  }

  /**
   * @param {string} name
   * @param {number} filter
   */
  select(name, filter) {
    if (name === this.layer.value && filter === Number(this.filter.value)) return;
    const other = name !== this.shown;
    this.layer.value = name;
    if (other) this.options();
    this.filter.value = String(filter);
    if (other) this.show();
    else this.update();
  }

  /** Build the view of the chosen layer's filters. */
  show() {
    const { network } = this;
    const name = (this.shown = this.layer.value);
    const layer = described(network, name);
    const [, channels, size, across] = network.weights[/** @type {string} */ (layer.weight)].shape;
    const [, height, width] = threeOf(layer.shape);
    this.kernels = Array.from({ length: channels }, (_, channel) => new Kernel(channel, channels, [size, across], [height, width]));
    this.sum = small("The filter’s map", height, width, width > 12 ? 7 : 16);
    fill(
      this.view,
      element("div", { class: "kernels" }, ...this.kernels.map(({ root }) => root)),
      element("div", { class: "kernel-sum" }, this.title, this.output, this.sum.root),
    );
    this.update();
  }

  /** Show the chosen filter, and its partial maps of the picture that is there. */
  update() {
    const { network } = this;
    const [name, filter] = [this.layer.value, Number(this.filter.value)];
    const layer = described(network, name);
    const kernels = this.kernels.map((_, channel) => kernel(network, name, filter, channel));
    const strongest = Math.max(...kernels.map(largest));
    this.kernels.forEach((one, channel) => one.show(kernels[channel], strongest));
    fill(this.title, `Their sum, and the bias ${fixed(network.weights[/** @type {string} */ (layer.bias)].values[filter], 4)}`);
    fill(this.output, `Output channel ${filter + 1} of ${name}`);
    const { explanation } = this.session;
    if (!explanation || !this.sum) return fill(this.check, "Put a picture in to see the partial maps.");
    const { partial, sum } = partialMaps(network, explanation, name, filter);
    const most = Math.max(...partial.map(largest), largest(sum));
    partial.forEach((values, place) => this.kernels[place].partial.set(values, most));
    this.sum.set(sum, most);
    const { values } = found(explanation, name);
    const start = filter * sum.length;
    const difference = sum.reduce((worst, value, place) => Math.max(worst, Math.abs(value - values[start + place])), 0);
    const exponent = difference ? difference.toExponential(0) : "0";
    fill(this.check, `Added up in this browser; the largest difference from what the server’s network computed: ${exponent}.`);
  }
}

/** A kernel and the partial map that it makes. */
class Kernel {
  /**
   * @param {number} channel
   * @param {number} channels
   * @param {[number, number]} size
   * @param {[number, number]} made the partial map's size
   */
  constructor(channel, channels, size, [height, width]) {
    this.size = size;
    /** @type {Float32Array | null} */
    this.weights = null;
    this.title = channels > 1 ? `Kernel ${channel + 1}, for channel ${channel + 1}` : "Its one kernel";
    this.kernel = small(`Kernel ${channel + 1}`, ...size, 18);
    this.partial = small(`Partial map ${channel + 1}`, height, width, width > 12 ? 5 : 12);
    this.table = element("div", {});
    this.root = element(
      "div",
      { class: "kernel" },
      element("h3", {}, this.title),
      this.kernel.root,
      element("details", {}, element("summary", {}, "As a table"), this.table),
      element("p", { class: "hint makes" }, "makes"),
      this.partial.root,
    );
  }

  /**
   * @param {Float32Array} weights
   * @param {number} most
   */
  show(weights, most) {
    // While somebody draws, pictures change and kernels do not.
    if (weights.byteOffset === this.weights?.byteOffset) return;
    this.weights = weights;
    const [height, width] = this.size;
    this.kernel.set(weights, most);
    const rows = Array.from({ length: height }, (_, row) => [
      String(row + 1),
      ...Array.from({ length: width }, (_, column) => fixed(weights[row * width + column], 3)),
    ]);
    const head = ["Row", ...Array.from({ length: width }, (_, column) => String(column + 1))];
    fill(this.table, scrolling(this.title, table(this.title, head, rows)));
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

// How one cell of a layer comes about, in numbers: the terms of its sum, or the values of which it is the largest.

/** @import { Cell, Explanation, Layer, LayerDescription, Network } from "../types.d.ts" */

/**
 * @typedef {object} Term one product of a sum
 * @property {number} value what the layer before has there
 * @property {number} weight
 * @property {number} product
 * @property {Cell} at where in the layer before
 *
 * @typedef {object} Group the terms that share a kernel, or a row of them
 * @property {number} map the input channel
 * @property {Term[]} terms
 * @property {number} sum
 *
 * @typedef {object} Derivation
 * @property {LayerDescription["kind"]} kind
 * @property {LayerDescription} layer
 * @property {LayerDescription} from the layer that it is computed from
 * @property {Group[]} groups
 * @property {number} bias
 * @property {number} value what the network answered for this cell
 */

/**
 * The derivation of one cell of a convolution, a linear layer, a pooling layer or the flattened tensor.
 * @param {Network} network
 * @param {Explanation} explanation
 * @param {string} name the layer's
 * @param {Cell} cell
 * @returns {Derivation}
 */
export function derive(network, explanation, name, cell) {
  const layer = described(network, name);
  const from = described(network, layer.from === "input" ? layer.name : layer.from);
  const values = found(explanation, name).values;
  const before = layer.from === "input" ? inputOf(explanation) : found(explanation, layer.from);
  const [, height, width] = threeOf(layer.shape);
  const base = { kind: layer.kind, layer, from, bias: 0, value: values[(cell.map * height + cell.row) * width + cell.column] };
  if (layer.kind === "conv") return { ...base, ...convolved(network, layer, before, cell) };
  if (layer.kind === "linear") return { ...base, ...weighed(network, layer, before, cell) };
  if (layer.kind === "pool") return { ...base, groups: [windowOf(before, cell, network.pool)] };
  if (layer.kind === "flatten") return { ...base, groups: [copied(before, (cell.map * height + cell.row) * width + cell.column)] };
  return { ...base, groups: [copied(before, (cell.map * height + cell.row) * width + cell.column)] };
}

/**
 * @param {Network} network
 * @param {LayerDescription} layer
 * @param {Layer} before
 * @param {Cell} cell
 */
function convolved(network, layer, before, cell) {
  const weight = network.weights[/** @type {string} */ (layer.weight)];
  const [, channels, size, across] = weight.shape;
  const groups = [];
  for (let map = 0; map < channels; map++) {
    /** @type {Term[]} */
    const terms = [];
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < across; column++) {
        const at = { map, row: cell.row + row, column: cell.column + column };
        const factor = weight.values[((cell.map * channels + map) * size + row) * across + column];
        terms.push(term(before, at, factor));
      }
    }
    groups.push(group(map, terms));
  }
  return { groups, bias: network.weights[/** @type {string} */ (layer.bias)].values[cell.map] };
}

/**
 * @param {Network} network
 * @param {LayerDescription} layer
 * @param {Layer} before a vector
 * @param {Cell} cell
 */
function weighed(network, layer, before, cell) {
  const weight = network.weights[/** @type {string} */ (layer.weight)];
  const length = weight.shape[1];
  const output = placeOf(layer.shape, cell);
  const terms = Array.from({ length }, (_, place) =>
    term(before, { map: 0, row: 0, column: place }, weight.values[output * length + place]),
  );
  return { groups: [group(0, terms)], bias: network.weights[/** @type {string} */ (layer.bias)].values[output] };
}

/**
 * @param {Layer} before
 * @param {Cell} cell
 * @param {number} size of the pooling window, and its stride
 */
function windowOf(before, cell, size) {
  /** @type {Term[]} */
  const terms = [];
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      terms.push(term(before, { map: cell.map, row: cell.row * size + row, column: cell.column * size + column }, 1));
    }
  }
  return group(cell.map, terms);
}

/**
 * @param {Layer} before
 * @param {number} place
 */
function copied(before, place) {
  const [, height, width] = threeOf(before.shape);
  const map = Math.floor(place / (height * width));
  const rest = place % (height * width);
  return group(map, [term(before, { map, row: Math.floor(rest / width), column: rest % width }, 1)]);
}

/**
 * @param {Layer} layer
 * @param {Cell} at
 * @param {number} weight
 * @returns {Term}
 */
function term(layer, at, weight) {
  const value = layer.values[placeOf(layer.shape, at)];
  return { value, weight, product: value * weight, at };
}

/**
 * @param {number} map
 * @param {Term[]} terms
 * @returns {Group}
 */
function group(map, terms) {
  return { map, terms, sum: terms.reduce((sum, { product }) => sum + product, 0) };
}

/**
 * The maps that a filter's kernels make, one a channel of the layer before: their sum and the bias are the filter's map.
 * @param {Network} network
 * @param {Explanation} explanation
 * @param {string} name a convolution's
 * @param {number} filter
 * @returns {{partial: Float32Array[], sum: Float32Array, bias: number}}
 */
export function partialMaps(network, explanation, name, filter) {
  const layer = described(network, name);
  const before = found(explanation, layer.from);
  const weight = network.weights[/** @type {string} */ (layer.weight)];
  const bias = network.weights[/** @type {string} */ (layer.bias)].values[filter];
  const [, channels, size, across] = weight.shape;
  const [, height, width] = layer.shape;
  const [, beforeHeight, beforeWidth] = before.shape;
  const sum = new Float32Array(height * width).fill(bias);
  const partial = Array.from({ length: channels }, (_, map) => {
    const values = new Float32Array(height * width);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        let total = 0;
        for (let i = 0; i < size; i++) {
          for (let j = 0; j < across; j++) {
            total +=
              before.values[(map * beforeHeight + row + i) * beforeWidth + column + j] *
              weight.values[((filter * channels + map) * size + i) * across + j];
          }
        }
        values[row * width + column] = total;
        sum[row * width + column] += total;
      }
    }
    return values;
  });
  return { partial, sum, bias };
}

/**
 * A kernel of a filter: the weights that it has for one channel.
 * @param {Network} network
 * @param {string} name a convolution's
 * @param {number} filter
 * @param {number} channel
 */
export function kernel(network, name, filter, channel) {
  const { shape, values } = network.weights[/** @type {string} */ (described(network, name).weight)];
  const area = shape[2] * shape[3];
  const start = (filter * shape[1] + channel) * area;
  return values.subarray(start, start + area);
}

/**
 * @param {Network} network
 * @param {string} name
 */
export function described(network, name) {
  const layer = network.layers.find((one) => one.name === name);
  if (!layer) throw new RangeError(`the network has no layer ${name}`);
  return layer;
}

/**
 * @param {Explanation} explanation
 * @param {string} name
 */
export function found(explanation, name) {
  const layer = explanation.layers.find((one) => one.name === name);
  if (!layer) throw new RangeError(`the explanation has no layer ${name}`);
  return layer;
}

/**
 * @param {Explanation} explanation
 * @returns {Layer}
 */
function inputOf(explanation) {
  return { name: "input", ...explanation.input };
}

/**
 * A layer's shape as maps, height, width; that of a vector as one map of one row.
 * @param {number[]} shape
 * @returns {[number, number, number]}
 */
export function threeOf(shape) {
  return shape.length === 1 ? [1, 1, shape[0]] : [shape[0], shape[1], shape[2]];
}

/**
 * Where a cell's value is in a layer's flat values.
 * @param {number[]} shape
 * @param {Cell} cell
 */
export function placeOf(shape, cell) {
  const [, height, width] = threeOf(shape);
  return (cell.map * height + cell.row) * width + cell.column;
}

/**
 * The network as it came, its weights turned from base64 into numbers.
 * @param {import("../types.d.ts").NetworkFile} file
 * @returns {Network}
 */
export function decode(file) {
  const weights = Object.entries(file.weights).map(([name, { shape, values }]) => {
    const bytes = Uint8Array.from(atob(values), (character) => character.charCodeAt(0));
    return [name, { shape, values: new Float32Array(bytes.buffer) }];
  });
  return { ...file, weights: Object.fromEntries(weights) };
}

// A small network for tests: 1 x 6 x 6 -> 2 filters of 3 x 3 -> pool -> 3 filters of 2 kernels of 1 x 1 -> 2 classes.

/** @import { Argument, Explanation, Layer, Network } from "../types.d.ts" */

/** Whole numbers, so that sums are exact. @param {number} length @param {number} step */
const numbers = (length, step) => Array.from({ length }, (_, place) => ((place * step) % 11) - 5);

/** @type {Network} */
export const network = {
  model_version: "1",
  classes: ["a", "b"],
  geometry: { channels: 1, height: 6, width: 6 },
  activation: "relu",
  pool: 2,
  gamma: 1,
  mean: 0,
  std: 1,
  temperature: 1,
  views: "one",
  description: { arguments: [], steps: [], parameters: [], total: 0 },
  layers: [
    { name: "normalized", kind: "normalized", shape: [1, 6, 6], from: "input" },
    { name: "conv1", kind: "conv", shape: [2, 4, 4], from: "normalized", weight: "conv1.weight", bias: "conv1.bias" },
    { name: "conv1_activation", kind: "activation", shape: [2, 4, 4], from: "conv1" },
    { name: "pool1", kind: "pool", shape: [2, 2, 2], from: "conv1_activation" },
    { name: "conv2", kind: "conv", shape: [3, 2, 2], from: "pool1", weight: "conv2.weight", bias: "conv2.bias" },
    { name: "flatten", kind: "flatten", shape: [12], from: "conv2" },
    { name: "out", kind: "linear", shape: [2], from: "flatten", weight: "out.weight", bias: "out.bias" },
  ],
  weights: {
    "conv1.weight": { shape: [2, 1, 3, 3], values: new Float32Array(numbers(18, 7)) },
    "conv1.bias": { shape: [2], values: new Float32Array([1, -2]) },
    "conv2.weight": { shape: [3, 2, 1, 1], values: new Float32Array(numbers(6, 3)) },
    "conv2.bias": { shape: [3], values: new Float32Array([0, 4, -1]) },
    "out.weight": { shape: [2, 12], values: new Float32Array(numbers(24, 5)) },
    "out.bias": { shape: [2], values: new Float32Array([3, 3]) },
  },
};

/** What the network makes of one image, layer by layer, in the plainest way. @returns {Explanation} */
export function explained() {
  const input = numbers(36, 4).map(Math.abs);
  const at = (/** @type {number[]} */ values, /** @type {number} */ size, /** @type {number[]} */ place) =>
    values[(place[0] * size + place[1]) * size + place[2]];
  const map = (/** @type {number} */ maps, /** @type {number} */ size, /** @type {(place: number[]) => number} */ value) =>
    Array.from({ length: maps * size * size }, (_, place) =>
      value([Math.floor(place / (size * size)), Math.floor(place / size) % size, place % size]),
    );
  const { weights } = network;
  const conv1 = map(2, 4, ([filter, row, column]) => {
    let sum = weights["conv1.bias"].values[filter];
    for (let i = 0; i < 3; i++)
      for (let j = 0; j < 3; j++) sum += at(input, 6, [0, row + i, column + j]) * weights["conv1.weight"].values[filter * 9 + i * 3 + j];
    return sum;
  });
  const activated = conv1.map((value) => Math.max(0, value));
  const pool1 = map(2, 2, ([channel, row, column]) =>
    Math.max(...[0, 1].flatMap((i) => [0, 1].map((j) => at(activated, 4, [channel, 2 * row + i, 2 * column + j])))),
  );
  const conv2 = map(3, 2, ([filter, row, column]) =>
    [0, 1].reduce(
      (sum, channel) => sum + at(pool1, 2, [channel, row, column]) * weights["conv2.weight"].values[filter * 2 + channel],
      weights["conv2.bias"].values[filter],
    ),
  );
  const out = [0, 1].map((output) =>
    conv2.reduce((sum, value, place) => sum + value * weights["out.weight"].values[output * 12 + place], weights["out.bias"].values[output]),
  );
  const values = { normalized: input, conv1, conv1_activation: activated, pool1, conv2, flatten: conv2, out };
  return {
    model_version: "1",
    prediction: { label: "a", index: 0, probabilities: { a: 1, b: 0 } },
    adjusted: [],
    input: { shape: [1, 6, 6], values: input },
    layers: network.layers.map(({ name, shape }) => /** @type {Layer} */ ({ name, shape, values: Reflect.get(values, name) })),
  };
}

/** The arguments of the released network, as `fashion-mnist describe --json` has them. @type {Argument[]} */
export const released = [
  ["conv1", "in_channels", "1", ""],
  ["conv1", "kernel_size", "5", "chosen"],
  ["conv1", "out_channels", "6", "chosen"],
  ["conv2", "in_channels", "6", ""],
  ["conv2", "kernel_size", "5", "chosen"],
  ["conv2", "out_channels", "12", "chosen"],
  ["fc1", "in_features", "12*4*4", ""],
  ["fc1", "out_features", "120", "chosen"],
  ["fc2", "in_features", "120", ""],
  ["fc2", "out_features", "60", "chosen"],
  ["out", "in_features", "60", ""],
  ["out", "out_features", "10", ""],
].map(([layer, parameter, argument, chosen]) => ({
  layer,
  parameter,
  argument,
  kind: chosen ? "hyperparameter" : "data-dependent",
  why: "",
}));

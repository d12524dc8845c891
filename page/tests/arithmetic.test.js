import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, derive, found, kernel, partialMaps, threeOf } from "../computed/arithmetic.js";
import { explained, network } from "./network.js";

const explanation = explained();

for (const { name, kind, shape } of network.layers) {
  if (kind === "activation" || kind === "normalized") continue;
  test(`the arithmetic of every cell of ${name} adds up`, () => {
    const [maps, height, width] = threeOf(shape);
    for (let place = 0; place < maps * height * width; place++) {
      const cell = { map: Math.floor(place / (height * width)), row: Math.floor(place / width) % height, column: place % width };
      const { groups, bias, value } = derive(network, explanation, name, cell);
      const products = groups.flatMap(({ terms }) => terms.map(({ product }) => product));
      /** @type {number} */
      const made = kind === "pool" ? Math.max(...products) : products.reduce((sum, product) => sum + product, bias);
      assert.equal(value, found(explanation, name).values[place]);
      assert.equal(made, value);
      assert.equal(groups.length, kind === "conv" ? network.weights[`${name}.weight`].shape[1] : 1);
    }
  });
}

test("a filter's partial maps and its bias add up to its map", () => {
  for (const name of ["conv1", "conv2"]) {
    const { values, shape } = found(explanation, name);
    const area = shape[1] * shape[2];
    for (let filter = 0; filter < shape[0]; filter++) {
      const { partial, sum, bias } = partialMaps(network, explanation, name, filter);
      assert.equal(partial.length, network.weights[`${name}.weight`].shape[1]);
      assert.deepEqual([...sum], values.slice(filter * area, (filter + 1) * area));
      sum.forEach((value, place) => assert.equal(partial.reduce((total, map) => total + map[place], bias), value));
    }
  }
});

test("a kernel is the filter's weights for one channel", () => {
  assert.deepEqual([...kernel(network, "conv2", 1, 1)], [network.weights["conv2.weight"].values[3]]);
});

test("weights are little-endian float32 in base64", () => {
  const values = Buffer.from(new Float32Array([1, -2.5]).buffer).toString("base64");
  const decoded = decode({ ...network, weights: { one: { shape: [2], values } } });
  assert.deepEqual([...decoded.weights.one.values], [1, -2.5]);
});

test("a layer that is not there is named", () => {
  assert.throws(() => found(explanation, "conv9"), /conv9/);
});

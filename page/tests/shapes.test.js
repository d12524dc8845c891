import assert from "node:assert/strict";
import { test } from "node:test";
import { chosenOf, deriveShapes } from "../computed/shapes.js";
import { released } from "./network.js";

const network = {
  geometry: { channels: 1, height: 28, width: 28 },
  pool: 2,
  classes: Array.from({ length: 10 }, (_, place) => String(place)),
  description: { arguments: released, steps: [], parameters: [], total: 0 },
};
const chosen = chosenOf(released);

test("the released network's shapes and 32,998 parameters follow from its hyperparameters", () => {
  const { rows, steps, parameters, total, problem } = deriveShapes(network, chosen);
  assert.equal(problem, "");
  assert.equal(total, 32_998);
  assert.deepEqual(rows.map(({ argument }) => argument), released.map(({ argument }) => argument));
  assert.deepEqual(
    steps.filter(({ step }) => step !== "activation").map(({ shape }) => shape.join("x")),
    ["1x28x28", "6x24x24", "6x12x12", "12x8x8", "12x4x4", "192", "120", "60", "10"],
  );
  assert.equal(parameters.length, 10);
});

test("what depends on a changed hyperparameter follows it", () => {
  const { rows, total } = deriveShapes(network, { ...chosen, "conv1.out_channels": 8, "conv2.kernel_size": 3 });
  const argument = (/** @type {string} */ layer, /** @type {string} */ name) =>
    rows.find((row) => row.layer === layer && row.parameter === name)?.argument;
  assert.equal(argument("conv2", "in_channels"), "8");
  assert.equal(argument("fc1", "in_features"), "12*5*5");
  assert.equal(total, 8 * 25 + 8 + 12 * 8 * 9 + 12 + 120 * 300 + 120 + 7200 + 60 + 610);
});

test("a map that shrinks to nothing is refused with the reason", () => {
  const { problem, rows } = deriveShapes(network, { ...chosen, "conv2.kernel_size": 12 });
  assert.match(problem, /conv2 takes 12 × 12: with 12 × 12 kernels 1 × 1 is left, and pooling needs 2 × 2/);
  assert.equal(rows.find((row) => row.layer === "fc1")?.argument, "–");
  assert.match(deriveShapes(network, { ...chosen, "conv1.kernel_size": 29 }).problem, /nothing is left/);
});

for (const value of [0, -1, 2.5, NaN, 1e9]) {
  test(`${value} is no hyperparameter`, () => {
    assert.match(deriveShapes(network, { ...chosen, "fc1.out_features": value }).problem, /fc1\.out_features takes a whole number/);
  });
}

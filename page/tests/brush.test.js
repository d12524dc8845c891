import assert from "node:assert/strict";
import { test } from "node:test";
import { inkAt, stroke } from "../computed/brush.js";

const brush = { radius: 1.5, erase: false };
const middle = { x: 5, y: 5 };

test("the brush is full in the middle, soft at the rim, and nothing beyond", () => {
  assert.equal(inkAt(0, 1.5), 1);
  assert.equal(inkAt(1.5, 1.5), 0.5);
  assert.equal(inkAt(2, 1.5), 0);
  for (let distance = 0; distance < 3; distance += 0.1) assert.ok(inkAt(distance, 1.5) >= inkAt(distance + 0.1, 1.5));
});

test("drawing over a drawing never makes it darker, erasing never brighter", () => {
  const pixels = new Uint8Array(100).fill(120);
  stroke(pixels, 10, middle, { x: 8, y: 2 }, brush);
  assert.ok(pixels.every((pixel) => pixel >= 120));
  assert.equal(Math.max(...pixels), 255);
  const drawn = pixels.slice();
  stroke(pixels, 10, middle, { x: 8, y: 2 }, { ...brush, erase: true });
  assert.ok(pixels.every((pixel, place) => pixel <= drawn[place]));
  assert.equal(pixels[55], 0);
});

test("a fast movement leaves no gaps", () => {
  const pixels = new Uint8Array(28 * 28);
  stroke(pixels, 28, { x: 2, y: 14 }, { x: 26, y: 14 }, brush);
  for (let column = 2; column < 26; column++) assert.ok(pixels[14 * 28 + column] > 200, `column ${column}`);
});

test("what reaches past the grid is cut off there", () => {
  const pixels = new Uint8Array(100);
  stroke(pixels, 10, { x: -4, y: -4 }, { x: 0, y: 0 }, brush);
  assert.ok(pixels[0] > 0);
  stroke(pixels, 10, { x: 40, y: 40 }, { x: 50, y: 50 }, brush);
  assert.equal(pixels[99], 0);
});

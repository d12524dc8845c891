import assert from "node:assert/strict";
import { test } from "node:test";
import { colourTable, stepOf } from "../computed/colours.js";
import { fixed, percent, read, size } from "../computed/numbers.js";
import { halves, packs } from "../computed/packs.js";
import { parseServerTiming } from "../computed/timing.js";

test("numbers have a true minus, none before a zero, and are read back", () => {
  assert.equal(fixed(-1.25, 1), "−1.3");
  assert.equal(fixed(-0.00001, 3), "0.000");
  assert.equal(read(fixed(-1234.5678, 4)), -1234.5678);
});

test("a probability is never rounded to certainty or to nothing", () => {
  assert.equal(percent(0.99999), "> 99.9 %");
  assert.equal(percent(0.0001), "< 0.1 %");
  assert.equal(percent(1), "100.0 %");
  assert.equal(percent(0), "0.0 %");
  assert.equal(percent(0.42), "42.0 %");
});

test("sizes are in units that people read", () => {
  assert.deepEqual([12, 1500, 1_500_000, 104_857_600].map(size), ["12 bytes", "2 KB", "1.5 MB", "105 MB"]);
});

test("Server-Timing is read with and without descriptions", () => {
  assert.deepEqual(parseServerTiming('parse;dur=0.1, cache, decode;desc="a b";dur="2.5", bad;dur=x'), [
    { name: "parse", ms: 0.1 },
    { name: "decode", ms: 2.5 },
  ]);
  assert.deepEqual(parseServerTiming(null), []);
});

test("packs hold what they may, in order, and a file that is too large goes alone", () => {
  const files = [60, 60, 500, 10, 10, 10].map((bytes, place) => ({ size: bytes, place }));
  const all = packs(files, 100, 2);
  assert.deepEqual(all.map((pack) => pack.map(({ place }) => place)), [[0], [1], [2], [3, 4], [5]]);
  assert.deepEqual(packs([], 100), []);
  assert.deepEqual(packs(Array.from({ length: 130 }, () => ({ size: 1 })), 1e9).map((pack) => pack.length), [64, 64, 2]);
});

test("halves make a pack", () => {
  assert.deepEqual(halves([1, 2, 3]), [[1, 2], [3]]);
});

test("zero is the middle of the diverging scale, and both ends are told apart", () => {
  assert.ok([127, 128].includes(stepOf(0, "diverging", 3)));
  assert.equal(stepOf(-3, "diverging", 3), 0);
  assert.equal(stepOf(9, "diverging", 3), 255);
  assert.equal(stepOf(128, "gray", 255), 128);
  const table = colourTable("diverging", false);
  assert.notDeepEqual([...table.slice(0, 3)], [...table.slice(-3)]);
});

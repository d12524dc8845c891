import assert from "node:assert/strict";
import { test } from "node:test";
import { asCSV, asJSON, sorted } from "../computed/rows.js";

/** @import { Row } from "../computed/rows.js" */

/** @param {string} file @param {number} place @param {number | null} sure @returns {Row} */
function row(file, place, sure) {
  const prediction = sure === null ? null : { label: "a", index: 0, probabilities: { a: sure, b: 1 - sure }, unknown: false, unknown_score: 2 };
  return { file, place, prediction, error: prediction ? "" : "The PNG is cut short.", version: prediction ? "1.3" : "" };
}

const rows = [row("shoe10.png", 0, 0.5), row("bad, one.png", 1, null), row("shoe9.png", 2, 0.75), row("=1+1.png", 3, 0.5)];

test("rows without an answer come last, whatever the order", () => {
  assert.deepEqual(sorted(rows, "probability", true).map(({ place }) => place), [2, 0, 3, 1]);
  assert.deepEqual(sorted(rows, "probability", false).map(({ place }) => place), [0, 3, 2, 1]);
});

test("files are sorted by the numbers in their names", () => {
  const names = sorted(rows, "file", false).map(({ file }) => file);
  assert.ok(names.indexOf("shoe9.png") < names.indexOf("shoe10.png"));
});

test("CSV has a line for each file, quotes, and no formula", () => {
  const lines = asCSV(rows, ["a", "b"]).split("\r\n");
  assert.equal(lines[0], "file,label,probability,unknown,unknown_score,model_version,error,a,b");
  assert.equal(lines[1], "shoe10.png,a,0.5,false,2,1.3,,0.5,0.5");
  assert.equal(lines[2], '"bad, one.png",,,,,,The PNG is cut short.,,');
  assert.ok(lines[4].startsWith("'=1+1.png,"));
  assert.equal(lines[5], "");
});

test("JSON has the API's answers and errors by file", () => {
  const all = JSON.parse(asJSON(rows));
  assert.deepEqual(all[0], { file: "shoe10.png", ...rows[0].prediction, model_version: "1.3" });
  assert.deepEqual(all[1], { file: "bad, one.png", error: "The PNG is cut short." });
});

// The answers to many files: sorted, and as CSV and JSON.

/** @import { Prediction } from "../types.d.ts" */

/**
 * @typedef {object} Row
 * @property {string} file
 * @property {number} place in the order of the files
 * @property {Prediction | null} prediction
 * @property {string} error a sentence; "" where there is none
 * @property {string} version of the model
 */

/** @typedef {"file" | "label" | "probability" | "unknown"} Column */

/**
 * @param {Row} row
 */
export function probabilityOf(row) {
  return row.prediction ? row.prediction.probabilities[row.prediction.label] : null;
}

/**
 * Sorted by a column; those without an answer come last, and equals in the order of the files.
 * @param {Row[]} rows
 * @param {Column} column
 * @param {boolean} descending
 */
export function sorted(rows, column, descending) {
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [left, right] = [keyOf(a, column), keyOf(b, column)];
    if (left === null || right === null) return Number(left === null) - Number(right === null) || a.place - b.place;
    const order = typeof left === "string" ? left.localeCompare(String(right), "en", { numeric: true }) : left - Number(right);
    return sign * order || a.place - b.place;
  });
}

/**
 * @param {Row} row
 * @param {Column} column
 */
function keyOf(row, column) {
  if (column === "file") return row.file;
  if (column === "label") return row.prediction?.label ?? null;
  if (column === "unknown") return row.prediction?.unknown_score ?? null;
  return probabilityOf(row);
}

/**
 * As CSV (RFC 4180), with a column for each class.
 * @param {Row[]} rows
 * @param {string[]} classes
 */
export function asCSV(rows, classes) {
  const head = ["file", "label", "probability", "unknown", "unknown_score", "model_version", "error", ...classes];
  const lines = rows.map((row) => {
    const { prediction } = row;
    const each = classes.map((name) => prediction?.probabilities[name] ?? "");
    const unknown = [prediction?.unknown ?? "", prediction?.unknown_score ?? ""];
    return [row.file, prediction?.label ?? "", probabilityOf(row) ?? "", ...unknown, row.version, row.error, ...each];
  });
  return [head, ...lines].map((line) => line.map(field).join(",") + "\r\n").join("");
}

/**
 * A field of CSV. What a spreadsheet would take for a formula gets an apostrophe in front: files are named by anybody.
 * @param {string | number | boolean} value
 */
function field(value) {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * As JSON: what the API answered, with the files' names.
 * @param {Row[]} rows
 */
export function asJSON(rows) {
  const all = rows.map(({ file, prediction, error, version }) =>
    prediction ? { file, ...prediction, model_version: version } : { file, error },
  );
  return JSON.stringify(all, null, 1);
}

// Numbers as text.

/** A minus sign, as wide as a plus sign. */
const MINUS = "−";

/**
 * With a fixed number of digits after the point, and no minus before a zero.
 * @param {number} value
 * @param {number} digits
 */
export function fixed(value, digits = 3) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

/**
 * A number that `fixed` wrote, read back.
 * @param {string} text
 */
export function read(text) {
  return Number(text.replace(MINUS, "-"));
}

/**
 * A probability in percent: with one digit, and never 100 % where it is less.
 * @param {number} probability
 */
export function percent(probability) {
  const value = 100 * probability;
  if (value > 0 && value < 0.05) return "< 0.1 %";
  if (value < 100 && value > 99.95) return "> 99.9 %";
  return `${value.toFixed(1)} %`;
}

/**
 * @param {number} bytes
 */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} KB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/**
 * @param {number} count
 * @param {string} one the word for one of them; an s makes it that for several
 */
export function counted(count, one) {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

/**
 * A shape as people write it: 6 × 24 × 24.
 * @param {number[]} shape
 */
export function times(shape) {
  return shape.join(" × ");
}

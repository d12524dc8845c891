// Values as colours: red, green and blue of 256 steps. The pages's tables and read-outs give the numbers.

/** @typedef {"gray" | "diverging" | "sequential"} Scale */

const STOPS = {
  gray: { light: ["#000000", "#ffffff"], dark: ["#000000", "#ffffff"] },
  // Blue and orange: told apart with every kind of colour blindness.
  diverging: {
    light: ["#0b4a8f", "#5b93cf", "#f4f2ee", "#e39a55", "#a34a00"],
    dark: ["#8cc0ff", "#2f6fb5", "#191c21", "#b96a22", "#ffbf80"],
  },
  sequential: {
    light: ["#f4f2ee", "#f0c592", "#d9822b", "#8a3d00"],
    dark: ["#191c21", "#7a4415", "#d9822b", "#ffd9ad"],
  },
};

/** @type {Map<string, Uint8ClampedArray>} */
const tables = new Map();

/**
 * 256 colours, three bytes each.
 * @param {Scale} scale
 * @param {boolean} dark
 */
export function colourTable(scale, dark) {
  const name = `${scale} ${dark}`;
  let table = tables.get(name);
  if (!table) {
    const stops = STOPS[scale][dark ? "dark" : "light"].map(channels);
    table = new Uint8ClampedArray(3 * 256);
    for (let step = 0; step < 256; step++) {
      const along = (step / 255) * (stops.length - 1);
      const before = Math.min(Math.floor(along), stops.length - 2);
      for (let channel = 0; channel < 3; channel++) {
        const [low, high] = [stops[before][channel], stops[before + 1][channel]];
        table[3 * step + channel] = low + (high - low) * (along - before);
      }
    }
    tables.set(name, table);
  }
  return table;
}

/**
 * Which of the 256 colours a value has; `most` is the largest magnitude that is shown.
 * @param {number} value
 * @param {Scale} scale
 * @param {number} most
 */
export function stepOf(value, scale, most) {
  const share = most ? value / most : 0;
  const step = scale === "diverging" ? 127.5 + 127.5 * share : 255 * share;
  return Math.min(255, Math.max(0, Math.round(step)));
}

/**
 * @param {string} hex
 */
function channels(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

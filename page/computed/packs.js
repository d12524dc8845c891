// Many files, sent in packs.

/** So many images go into one request: its answer is there soon, and the progress bar moves. */
export const PACK = 64;

/**
 * Divide files into packs of at most `most` files and, save where one alone is larger, `bytes` bytes.
 * @template {{size: number}} T
 * @param {T[]} files
 * @param {number} bytes
 * @param {number} most
 * @returns {T[][]}
 */
export function packs(files, bytes, most = PACK) {
  /** @type {T[][]} */
  const all = [];
  let held = Infinity;
  for (const file of files) {
    const last = all[all.length - 1];
    if (!last || last.length === most || held + file.size > bytes) {
      all.push([file]);
      held = file.size;
    } else {
      last.push(file);
      held += file.size;
    }
  }
  return all;
}

/**
 * Two halves of a pack: where a request is refused whole, one of its files is at fault.
 * @template T
 * @param {T[]} pack
 * @returns {T[][]}
 */
export function halves(pack) {
  const middle = Math.ceil(pack.length / 2);
  return [pack.slice(0, middle), pack.slice(middle)];
}

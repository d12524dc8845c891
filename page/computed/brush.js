// A soft brush on a grid of pixels.

/**
 * Draw from one point to another: each pixel becomes at least as bright as the brush makes it, or, with an eraser, at
 * most as bright as the brush leaves it.
 * @param {Uint8Array} pixels row by row, changed in place
 * @param {number} width pixels in a row
 * @param {{x: number, y: number}} from in pixels; the centre of the first pixel is (0.5, 0.5)
 * @param {{x: number, y: number}} to
 * @param {{radius: number, erase: boolean}} brush radius in pixels
 */
export function stroke(pixels, width, from, to, brush) {
  const height = pixels.length / width;
  const reach = brush.radius + 0.5;
  const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - reach));
  const bottom = Math.min(height - 1, Math.floor(Math.max(from.y, to.y) + reach));
  const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - reach));
  const right = Math.min(width - 1, Math.floor(Math.max(from.x, to.x) + reach));
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const ink = inkAt(distance({ x: column + 0.5, y: row + 0.5 }, from, to), brush.radius);
      const place = row * width + column;
      pixels[place] = brush.erase
        ? Math.min(pixels[place], Math.round(255 * (1 - ink)))
        : Math.max(pixels[place], Math.round(255 * ink));
    }
  }
}

/**
 * How much of the brush's colour there is at a distance from its middle: all of it up to half a pixel within the radius,
 * none half a pixel beyond it, and smoothly less between.
 * @param {number} distance
 * @param {number} radius
 */
export function inkAt(distance, radius) {
  const t = Math.min(1, Math.max(0, radius + 0.5 - distance));
  return t * t * (3 - 2 * t);
}

/**
 * How far a point is from a line segment.
 * @param {{x: number, y: number}} point
 * @param {{x: number, y: number}} from
 * @param {{x: number, y: number}} to
 */
function distance(point, from, to) {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = dx * dx + dy * dy;
  const along = length ? Math.min(1, Math.max(0, ((point.x - from.x) * dx + (point.y - from.y) * dy) / length)) : 0;
  return Math.hypot(point.x - from.x - along * dx, point.y - from.y - along * dy);
}

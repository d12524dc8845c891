// The header Server-Timing (https://www.w3.org/TR/server-timing/).

/**
 * Its metrics that have a duration, in their order.
 * @param {string | null} header
 * @returns {{name: string, ms: number}[]}
 */
export function parseServerTiming(header) {
  return (header ?? "").split(",").flatMap((metric) => {
    const [name, ...parameters] = metric.split(";").map((part) => part.trim());
    const duration = parameters.find((parameter) => parameter.toLowerCase().startsWith("dur="));
    const ms = duration === undefined ? NaN : Number(duration.slice(4).replaceAll('"', ""));
    return name && Number.isFinite(ms) ? [{ name, ms }] : [];
  });
}

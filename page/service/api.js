// Requests to the gateway that serves the page: with the key, a deadline, and failures that say what to do.

import { parseServerTiming } from "../computed/timing.js";
import { refusal, silence, slowness } from "./failures.js";
import { askForKey, authorization, hasKey } from "./key.js";

/** @import { Config, Explanation, Prediction, Source } from "../types.d.ts" */

const DEADLINE_MS = 30_000;

/**
 * Ask the gateway; where it wants a key, ask for one and then ask again.
 * @param {string} path
 * @param {RequestInit & {deadline_ms?: number}} [request]
 * @returns {Promise<Response>} of status 2xx
 * @throws {Failure} and, where `request.signal` says so, an AbortError
 */
export async function ask(path, request = {}) {
  for (;;) {
    const failure = await attempt(path, request);
    if (failure instanceof Response) return failure;
    const wantsKey = failure.status === 401 || failure.status === 403;
    if (!wantsKey || !(await askForKey(failure.message))) throw failure;
  }
}

/**
 * @param {string} path
 * @param {RequestInit & {deadline_ms?: number}} request
 */
async function attempt(path, { deadline_ms = DEADLINE_MS, signal, ...request }) {
  const deadline = AbortSignal.timeout(deadline_ms);
  const signals = signal ? [signal, deadline] : [deadline];
  try {
    const headers = { ...request.headers, ...authorization() };
    const response = await fetch(path, { ...request, headers, signal: AbortSignal.any(signals) });
    return response.ok ? response : await refusal(response);
  } catch (error) {
    if (signal?.aborted) throw error;
    if (deadline.aborted) return slowness(deadline_ms);
    // A key is looked at before a body is received: a browser that still sends may miss what was said.
    return (await keyRefused()) ?? silence();
  }
}

/** The refusal of the key in use, where that is why a request failed; else null. */
async function keyRefused() {
  if (!hasKey()) return null;
  try {
    const response = await fetch("/network.json", { method: "HEAD", headers: authorization(), signal: AbortSignal.timeout(3000) });
    return response.status === 401 || response.status === 403 ? await refusal(new Response(REVOKED, response)) : null;
  } catch {
    return null;
  }
}

const REVOKED = JSON.stringify({
  error: { code: "unauthorized", message: "the server does not take this key any more: enter another one" },
});

/**
 * @template T
 * @param {string} path
 * @param {RequestInit} [request]
 * @returns {Promise<T>}
 */
export async function askJSON(path, request) {
  return (await ask(path, request)).json();
}

/** @returns {Promise<Config>} */
export function config() {
  return askJSON("/page/config.json");
}

/**
 * @typedef {object} Predicted
 * @property {(Prediction | {error: {code: string, message: string}})[]} predictions
 * @property {string} version
 * @property {{name: string, ms: number}[]} timing
 * @property {number} total_ms
 */

/**
 * Predict what a body shows, one image or many.
 * @param {string} path
 * @param {BodyInit} body
 * @param {{prepare?: string, signal?: AbortSignal, type?: string}} how
 * @returns {Promise<Predicted>}
 */
export async function predict(path, body, { prepare, signal, type }) {
  const started = performance.now();
  const query = prepare ? `?prepare=${prepare}` : "";
  const response = await ask(path + query, { method: "POST", body, signal, headers: typeOf(type) });
  const { predictions, model_version } = await response.json();
  return {
    predictions,
    version: model_version,
    timing: parseServerTiming(response.headers.get("Server-Timing")),
    total_ms: performance.now() - started,
  };
}

/**
 * Explain what one image's answer comes from.
 * @param {BodyInit} body
 * @param {{prepare?: string, signal?: AbortSignal, type?: string, brief?: boolean}} how brief: layers alone
 * @returns {Promise<{explanation: Explanation, timing: {name: string, ms: number}[], total_ms: number}>}
 */
export async function explain(body, { prepare, signal, type, brief }) {
  const started = performance.now();
  const query = new URLSearchParams({
    ...(prepare ? { prepare } : {}),
    ...(brief ? { occlusion: "0", steps: "0" } : {}),
  });
  const response = await ask(`/explain?${query}`, { method: "POST", body, signal, headers: typeOf(type) });
  return {
    explanation: await response.json(),
    timing: parseServerTiming(response.headers.get("Server-Timing")),
    total_ms: performance.now() - started,
  };
}

/**
 * @param {string | undefined} type without one, as for a form, the browser says it
 */
function typeOf(type) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (type) headers["Content-Type"] = type;
  return headers;
}

/**
 * How a source's body is sent: what it is, its first bytes say.
 * @param {Source} source
 */
export function bodyType(source) {
  return source.raw ? "application/octet-stream" : source.body.type || "application/octet-stream";
}

// Everything that can go wrong, as a sentence that says what to do.

import { size } from "../computed/numbers.js";

/** @import { Config } from "../types.d.ts" */

/** A request without an answer: `message` is for people, `code` is the API's, or one of "offline", "silent", "slow". */
export class Failure extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, retryAfter_s?: number, index?: number}} [more]
   */
  constructor(code, message, { status = 0, retryAfter_s, index } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter_s = retryAfter_s;
    this.index = index;
  }

  /** Whether the same request may succeed later. */
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** Where the server gave no answer at all. */
export function silence() {
  return navigator.onLine === false
    ? new Failure("offline", "This device is offline: connect it to the network again, then press “Try again”.")
    : new Failure(
        "silent",
        "The server does not answer: it may have been stopped, or be restarting. Start it, or wait a moment, then press “Try again”.",
      );
}

/**
 * @param {number} deadline_ms
 */
export function slowness(deadline_ms) {
  const seconds = Math.round(deadline_ms / 1000);
  return new Failure("slow", `The server gave no answer within ${seconds} seconds: press “Try again”, or send less at once.`);
}

/**
 * What the API says of a request that it refused.
 * @param {Response} response
 */
export async function refusal(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  const more = { status: response.status, retryAfter_s: seconds > 0 ? seconds : undefined };
  try {
    const { error } = await response.json();
    return failureOf(error, more);
  } catch {
    // A proxy in front has answers of its own.
    return new Failure("unexplained", `The server answered ${response.status} ${response.statusText}: press “Try again”.`, more);
  }
}

/**
 * An error as answers carry it.
 * @param {{code: string, message: string, index?: number}} error
 * @param {{status?: number, retryAfter_s?: number}} [more]
 */
export function failureOf(error, more = {}) {
  return new Failure(error.code, sentence(error.message), { ...more, index: error.index });
}

/**
 * @param {string} text
 */
function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/**
 * Why a file cannot be sent at all; null where it can.
 * @param {{name: string, size: number}} file
 * @param {Config["limits"]} limits
 */
export function unsendable(file, limits) {
  if (!file.size) {
    return new Failure("empty_body", `${file.name} is empty (0 bytes): choose another file, or save this one again.`);
  }
  if (file.size > limits.max_body_bytes) {
    return new Failure(
      "body_too_large",
      `${file.name} has ${size(file.size)}, and this server takes up to ${size(limits.max_body_bytes)}: make it smaller first.`,
    );
  }
  return null;
}

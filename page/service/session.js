// The picture that the page shows at the moment, its answer, and what explains that.

import { Failure, failureOf, unsendable } from "./failures.js";
import { bodyType, explain, predict } from "./api.js";

/** @import { Answer, Config, Explanation, Source, Step } from "../types.d.ts" */

/** How long a drawing must rest before it is explained in full. */
const REST_MS = 300;

/**
 * Says by events what happened: "start" (another source), "answer", "explanation", "failure", "explanation-failure".
 * Of two sources the later one counts: what comes for the one before is dropped.
 */
export class Session extends EventTarget {
  /**
   * @param {Config} config
   */
  constructor(config) {
    super();
    this.config = config;
    this.mode = config.prepare;
    /** @type {Source | null} */
    this.source = null;
    /** @type {Answer | null} */
    this.answer = null;
    /** @type {Explanation | null} */
    this.explanation = null;
    /** The steps of the whole preparation, and the one after which it is stopped. @type {Step[]} */
    this.steps = [];
    /** @type {number | null} */
    this.stop = null;
    /** @type {Failure | null} */
    this.failure = null;
    /** Why there is an answer and no explanation. @type {Failure | null} */
    this.unexplained = null;
    this.drawn = 0;
    this.current = new AbortController();
    /** @type {Source | null} */
    this.waiting = null;
    this.drawing = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.rest = undefined;
  }

  /**
   * Put a picture in.
   * @param {Source} source
   */
  async show(source) {
    this.begin(source);
    const refused = unsendable({ name: source.name, size: source.body.size }, this.config.limits);
    if (refused) return this.fail(refused);
    await this.work(source.body, bodyType(source), this.prepareOf(source));
  }

  /** Ask once more for the picture that is there. */
  async again() {
    if (this.source) await this.show(this.source);
  }

  /**
   * Prepare in another way.
   * @param {string} mode
   */
  async prepare(mode) {
    this.mode = mode;
    await this.again();
  }

  /**
   * Stop the preparation after one of its steps; null takes all of them.
   * @param {number | null} stop the step's place
   */
  async stopAfter(stop) {
    if (!this.source) return;
    if (stop === null) return this.again();
    const { steps, source } = this;
    this.begin(source);
    this.steps = steps;
    this.stop = stop;
    await this.work(bytesOf(steps[stop].png), "image/png", "none");
  }

  /**
   * Follow a drawing: one request is under way at a time, and the newest drawing is the next.
   * @param {Source} source
   */
  async draw(source) {
    this.waiting = source;
    if (this.drawing) return;
    this.drawing = true;
    try {
      while (this.waiting) {
        const newest = this.waiting;
        this.waiting = null;
        await this.follow(newest);
      }
    } finally {
      this.drawing = false;
    }
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      if (this.source?.origin === "drawing" && !this.drawing) this.complete();
    }, REST_MS);
  }

  /**
   * @param {Source} source
   */
  async follow(source) {
    const signal = this.begin(source);
    try {
      if (this.config.explain) {
        const { explanation, timing, total_ms } = await explain(source.body, { signal, brief: true, type: bodyType(source), prepare: this.prepareOf(source) });
        this.drawn++;
        this.answered({ source, prediction: explanation.prediction, version: explanation.model_version, timing, total_ms });
        this.explained(explanation);
      } else {
        await this.ask(source.body, bodyType(source), this.prepareOf(source), signal);
        this.drawn++;
      }
    } catch (error) {
      this.failWith(error, signal);
    }
  }

  /** Get what a drawing's answers leave out. */
  async complete() {
    const { source, current } = this;
    if (!source || !this.config.explain) return;
    try {
      const { explanation } = await explain(source.body, { signal: current.signal, type: bodyType(source), prepare: this.prepareOf(source) });
      if (source === this.source) this.explained(explanation);
    } catch (error) {
      if (!current.signal.aborted) this.explanationFailed(error);
    }
  }

  /**
   * @param {Blob} body
   * @param {string} type
   * @param {string} prepare
   */
  async work(body, type, prepare) {
    const { signal } = this.current;
    try {
      const count = await this.ask(body, type, prepare, signal);
      if (!this.config.explain) return;
      if (count > 1) {
        const message = `This file holds ${count} images, of which the first is answered here: choose it together with another file to see all of them.`;
        throw new Failure("bad_length", message, { status: 400 });
      }
    } catch (error) {
      if (!(error instanceof Failure && error.code === "bad_length" && this.answer)) return this.failWith(error, signal);
      return this.explanationFailed(error);
    }
    try {
      const { explanation } = await explain(body, { signal, type, prepare });
      if (!signal.aborted) this.explained(explanation);
    } catch (error) {
      if (!signal.aborted) this.explanationFailed(error);
    }
  }

  /**
   * @param {Blob} body
   * @param {string} type
   * @param {string} prepare
   * @param {AbortSignal} signal
   * @returns {Promise<number>} how many images there are
   */
  async ask(body, type, prepare, signal) {
    const { predictions, version, timing, total_ms } = await predict(this.config.predict, body, { prepare, signal, type });
    const [first] = predictions;
    if ("error" in first) throw failureOf(first.error, { status: 400 });
    if (!signal.aborted && this.source) this.answered({ source: this.source, prediction: first, version, timing, total_ms });
    return predictions.length;
  }

  /**
   * @param {Source} source
   */
  begin(source) {
    this.current.abort();
    this.current = new AbortController();
    clearTimeout(this.rest);
    const same = this.source === source || (source.origin === "drawing" && this.source?.origin === "drawing");
    this.source = source;
    if (!same) {
      this.answer = null;
      this.explanation = null;
    }
    this.steps = [];
    this.stop = null;
    this.failure = null;
    this.unexplained = null;
    this.dispatchEvent(new Event("start"));
    return this.current.signal;
  }

  /**
   * @param {Answer} answer
   */
  answered(answer) {
    this.answer = answer;
    this.dispatchEvent(new Event("answer"));
  }

  /**
   * @param {Explanation} explanation
   */
  explained(explanation) {
    this.explanation = explanation;
    if (this.stop === null) this.steps = explanation.preparation ?? [];
    this.dispatchEvent(new Event("explanation"));
  }

  /**
   * @param {unknown} error
   * @param {AbortSignal} signal
   */
  failWith(error, signal) {
    if (signal.aborted) return;
    if (!(error instanceof Failure)) throw error;
    this.fail(error);
  }

  /**
   * @param {Failure} failure
   */
  fail(failure) {
    this.failure = failure;
    this.dispatchEvent(new Event("failure"));
  }

  /**
   * @param {unknown} error
   */
  explanationFailed(error) {
    if (!(error instanceof Failure)) throw error;
    this.unexplained = error;
    this.dispatchEvent(new Event("explanation-failure"));
  }

  /**
   * @param {Source} source
   */
  prepareOf(source) {
    // What is drawn, or comes from the test set, is what the network knows: only "always" changes it.
    return source.origin === "mistake" ? "none" : this.mode;
  }
}

/**
 * @param {string} base64 a PNG
 */
function bytesOf(base64) {
  return new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type: "image/png" });
}

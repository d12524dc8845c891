// Many files: sent in packs, a row for each, to sort and to keep.

import { counted } from "../computed/numbers.js";
import { halves, packs } from "../computed/packs.js";
import { predict } from "../service/api.js";
import { Failure, failureOf, unsendable } from "../service/failures.js";
import { byId, element, fill, save } from "../parts/dom.js";
import { announce } from "../parts/live.js";
import { asCSV, asJSON } from "../computed/rows.js";
import { RowTable } from "./batch_table.js";

/** @import { Session } from "../service/session.js" */
/** @import { Row } from "../computed/rows.js" */

/** Attempts at a pack that the server has no room for at the moment. */
const ATTEMPTS = 5;
/** What a form adds to a file. */
const FIELD_BYTES = 300;

/** @typedef {{file: File, place: number, size: number}} Item */

/**
 * @param {Session} session
 * @returns {(files: File[]) => void} begins with other files
 */
export function showBatch(session) {
  /** @type {Batch | null} */
  let batch = null;
  return (files) => {
    batch?.cancel();
    batch = new Batch(session, files);
    batch.go();
    byId("batch").scrollIntoView({ block: "nearest" });
  };
}

class Batch {
  /**
   * @param {Session} session
   * @param {File[]} files
   */
  constructor(session, files) {
    this.session = session;
    this.files = files;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Item[]} */
    this.left = files.map((file, place) => ({ file, place, size: file.size + FIELD_BYTES }));
    this.progress = element("progress", { max: files.length, value: 0, "aria-label": "Pictures answered" });
    this.state = element("p", { class: "state" });
    this.problem = element("div", {});
    this.stop = element("button", { type: "button", onclick: () => this.cancel() }, "Cancel");
    this.csv = element("button", { type: "button", onclick: () => this.keep("csv") }, "Download CSV");
    this.json = element("button", { type: "button", onclick: () => this.keep("json") }, "Download JSON");
    this.table = new RowTable(files, (file) => session.show({ name: file.name, body: file, raw: false, origin: "file" }));
    this.abort = new AbortController();
    const section = byId("batch");
    section.hidden = false;
    for (const old of section.querySelectorAll(":scope > :not(h2)")) old.remove();
    section.append(
      element("div", { class: "batch-head" }, this.progress, this.state, element("div", { class: "buttons" }, this.stop, this.csv, this.json)),
      this.problem,
      this.table.root,
    );
  }

  /** Send what is left. */
  async go() {
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.stop.disabled = false;
    fill(this.problem);
    this.show();
    const { limits } = this.session.config;
    for (const item of this.left) {
      const refused = unsendable(item.file, limits);
      if (refused) this.failed(item, refused);
    }
    this.settle();
    try {
      for (const pack of packs(this.left, limits.max_body_bytes)) await this.pack(pack, signal);
    } catch (error) {
      if (!signal.aborted) this.interrupted(error);
    }
    this.stop.disabled = true;
    this.show();
    if (!this.left.length) announce(`${counted(this.rows.length, "picture")} done`);
  }

  /**
   * Get a pack answered; of one that is refused whole, its halves.
   * @param {Item[]} pack
   * @param {AbortSignal} signal
   */
  async pack(pack, signal) {
    try {
      const { predictions, version } = await this.asked(pack, signal);
      if (predictions.length !== pack.length && pack.length > 1) throw new Failure("several_images", "", { status: 400 });
      // Of a file with several images each has a row.
      predictions.forEach((prediction, place) => {
        const item = pack[Math.min(place, pack.length - 1)];
        if ("error" in prediction) return this.failed(item, failureOf(prediction.error));
        const name = predictions.length > pack.length ? `${item.file.name} [${place}]` : item.file.name;
        this.rows.push({ file: name, place: item.place, prediction, error: "", version });
      });
    } catch (error) {
      if (!(error instanceof Failure) || error.passes || error.status === 401 || error.status === 403) throw error;
      if (pack.length > 1) {
        for (const half of halves(pack)) await this.pack(half, signal);
        return;
      }
      this.failed(pack[0], error);
    }
    const done = new Set(pack);
    this.left = this.left.filter((item) => !done.has(item));
    this.settle();
  }

  /**
   * @param {Item[]} pack
   * @param {AbortSignal} signal
   */
  async asked(pack, signal) {
    const { config, mode } = this.session;
    const form = new FormData();
    for (const { file, place } of pack) form.append(String(place), file, file.name);
    for (let attempt = 1; ; attempt++) {
      try {
        return await predict(config.predict, form, { prepare: mode, signal });
      } catch (error) {
        const busy = error instanceof Failure && (error.status === 429 || error.status === 503);
        if (!busy || attempt === ATTEMPTS) throw error;
        await pause(1000 * (error.retryAfter_s ?? 1), signal);
      }
    }
  }

  /**
   * @param {Item} item
   * @param {Failure} failure
   */
  failed(item, failure) {
    this.rows.push({ file: item.file.name, place: item.place, prediction: null, error: failure.message, version: "" });
    this.left = this.left.filter((one) => one !== item);
  }

  /**
   * What was answered stays, and the rest can be sent later.
   * @param {unknown} error
   */
  interrupted(error) {
    if (!(error instanceof Failure)) throw error;
    const again = element("button", { type: "button", onclick: () => this.go() }, "Try again");
    const kept = ` ${counted(this.rows.length, "answer")} of ${this.files.length.toLocaleString("en")} stay here; “Try again” sends the rest.`;
    fill(this.problem, element("p", { class: "message", role: "alert" }, error.message + kept), again);
  }

  cancel() {
    this.abort.abort();
    this.stop.disabled = true;
    if (!this.left.length) return;
    const on = element("button", { type: "button", onclick: () => this.go() }, "Go on");
    fill(this.problem, element("p", { class: "message" }, `Cancelled: ${counted(this.left.length, "picture")} not sent.`), on);
  }

  settle() {
    this.table.set(this.rows);
    this.show();
  }

  show() {
    const done = this.files.length - this.left.length;
    const wrong = this.rows.filter(({ error }) => error).length;
    this.progress.value = done;
    const errors = wrong ? `, ${counted(wrong, "error")}` : "";
    this.state.textContent = `${done.toLocaleString("en")} of ${counted(this.files.length, "picture")}${errors}`;
    this.csv.disabled = this.json.disabled = !this.rows.length;
  }

  /**
   * @param {"csv" | "json"} format
   */
  keep(format) {
    if (format === "csv") save("predictions.csv", "text/csv", asCSV(this.table.rows, this.session.config.task.classes));
    else save("predictions.json", "application/json", asJSON(this.table.rows));
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal ends it early
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = window.setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      window.clearTimeout(timer);
      resolve(undefined);
    });
  });
}

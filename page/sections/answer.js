// The answer: every class with its probability, and where the time went.

import { fixed, percent } from "../computed/numbers.js";
import { byId, element, fill } from "../parts/dom.js";
import { announce } from "../parts/live.js";

/** @import { Session } from "../service/session.js" */
/** @import { Answer, Source } from "../types.d.ts" */

/**
 * @param {Session} session
 */
export function showAnswer(session) {
  const picture = element("img", { class: "shown", alt: "", hidden: true });
  const name = element("p", { class: "hint name" });
  const label = element("p", { id: "answer-label" });
  const sure = element("p", { class: "sure" });
  const note = element("div", {});
  const bars = new Bars(session.config.task.classes);
  const about = element("div", { class: "about" });
  const problem = element("div", { class: "problem" });
  byId("answer").append(
    problem,
    element("div", { class: "headline" }, element("div", {}, label, sure, name), picture),
    note,
    bars.root,
    about,
  );
  const thumbnail = new Thumbnail(picture);
  session.addEventListener("start", () => {
    fill(problem);
    thumbnail.follow(session.source);
    name.textContent = session.source?.name ?? "";
    if (!session.answer) {
      fill(label);
      fill(sure);
      fill(note);
      bars.show({});
    }
  });
  session.addEventListener("answer", () => {
    if (!session.answer) return;
    const { prediction } = session.answer;
    const probability = prediction.probabilities[prediction.label];
    fill(label, prediction.label);
    fill(sure, percent(probability));
    fill(note, ...notes(session.answer));
    bars.show(prediction.probabilities, prediction.label);
    thumbnail.show(session.answer.source);
    fill(about, ...aboutOf(session.answer));
    announce(`${prediction.unknown ? "Does not look like any of the classes; nearest: " : ""}${prediction.label}, ${percent(probability)}`);
  });
  session.addEventListener("failure", () => {
    const again = element("button", { type: "button", onclick: () => session.again() }, "Try again");
    fill(problem, element("p", { class: "message", role: "alert" }, session.failure?.message), session.failure?.passes && again);
  });
}

/**
 * @param {Answer} answer
 */
function notes({ prediction }) {
  const { unknown, unknown_score: score, adjusted } = prediction;
  const all = [];
  if (unknown) {
    const text = score === undefined ? "" : ` Its score is ${score.toFixed(1)}, on a scale from 1 to 10.`;
    all.push(element("p", { class: "message" }, element("strong", {}, "It does not look like any of the classes."), text));
  }
  if (adjusted?.length) all.push(element("p", { class: "hint" }, `Prepared: ${adjusted.join(", ")}.`));
  return all;
}

/**
 * @param {Answer} answer
 */
function aboutOf({ version, timing, total_ms }) {
  const stages = timing.map(({ name, ms }) => `${name} ${fixed(ms, 1)}`).join(", ");
  return [
    element(
      "p",
      { class: "hint" },
      "The probabilities are calibrated: of many answers that say 80 %, about 80 in 100 are correct, for pictures like those of the data set.",
    ),
    element("p", { class: "hint" }, `Version ${version}. ${fixed(total_ms, 1)} ms in all${stages ? `, of these in the server: ${stages}` : ""}.`),
  ];
}

/** A table of the classes, each with a bar. */
class Bars {
  /**
   * @param {string[]} classes
   */
  constructor(classes) {
    /** @type {Map<string, {row: HTMLElement, bar: HTMLElement, number: HTMLElement}>} */
    this.rows = new Map();
    const body = element("tbody", {});
    for (const name of classes) {
      const bar = element("span", { class: "bar" });
      const number = element("td", { class: "number" });
      const row = element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "track", "aria-hidden": "true" }, bar), number);
      this.rows.set(name, { row, bar, number });
      body.append(row);
    }
    this.root = element("table", { class: "bars" }, element("caption", { class: "unseen" }, "Probability of each class"), body);
  }

  /**
   * @param {Record<string, number>} probabilities
   * @param {string} [winner]
   */
  show(probabilities, winner) {
    for (const [name, { row, bar, number }] of this.rows) {
      const probability = probabilities[name];
      row.classList.toggle("winner", name === winner);
      bar.classList.toggle("none", probability === undefined);
      bar.style.inlineSize = `${100 * (probability ?? 0)}%`;
      number.textContent = probability === undefined ? "" : percent(probability);
    }
  }
}

/** The picture that was put in, small. */
class Thumbnail {
  /**
   * @param {HTMLImageElement} image
   */
  constructor(image) {
    this.image = image;
    this.url = "";
    /** @type {Source | null} */
    this.source = null;
    // Not every browser knows every format that the server takes.
    image.addEventListener("error", () => (image.hidden = true));
  }

  /**
   * Take the picture of another source away.
   * @param {Source | null} source
   */
  follow(source) {
    if (source === this.source) return;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = "";
    this.source = null;
    this.image.hidden = true;
  }

  /**
   * Only what the server has decoded: it has limits, and a browser may try to decode 400 megapixels.
   * @param {Source} source
   */
  show(source) {
    if (source === this.source || source.raw) return;
    this.source = source;
    this.url = URL.createObjectURL(source.body);
    this.image.hidden = false;
    this.image.alt = `The picture that was put in: ${source.name}`;
    this.image.src = this.url;
  }
}

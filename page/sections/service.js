// How the service is doing, while somebody looks.

import { fixed, percent } from "../computed/numbers.js";
import { byId, element, fill, scrolling, table } from "../parts/dom.js";
import { askJSON } from "../service/api.js";
import { askForKey } from "../service/key.js";

/** @import { Status } from "../types.d.ts" */

const PAUSE_MS = 2000;

export function showService() {
  const view = element("div", { class: "service" });
  byId("service").append(view);
  let visible = true;
  let timer = 0;
  const update = async () => {
    window.clearTimeout(timer);
    if (!visible || document.hidden) return;
    try {
      const status = /** @type {Status} */ (await askJSON("/status.json"));
      // Whoever reads a table by keyboard keeps it.
      if (!view.contains(document.activeElement)) fill(view, ...shown(status, update));
    } catch (error) {
      // What was there last stays.
      const message = error instanceof Error ? error.message : String(error);
      view.querySelector(".message")?.remove();
      view.prepend(element("p", { class: "message" }, message));
    }
    timer = window.setTimeout(update, PAUSE_MS);
  };
  update();
  new IntersectionObserver(([entry]) => {
    const came = entry.isIntersecting && !visible;
    visible = entry.isIntersecting;
    if (came) update();
  }).observe(byId("service"));
  document.addEventListener("visibilitychange", update);
}

/**
 * @param {Status} status
 * @param {() => void} update
 */
function shown({ ready, keys, reason, versions, traffic, drift }, update) {
  const state = element("p", {}, element("strong", { class: ready ? "ready" : "not-ready" }, ready ? "Ready" : "Not ready"), reason ? `: ${reason}` : "");
  if (!versions) {
    const why = "How the service is doing is for those who have a key.";
    const ask = async () => {
      if (await askForKey(why)) update();
    };
    return [state, keys && element("button", { type: "button", onclick: ask }, "Enter a key")];
  }
  return [state, traffic && trafficOf(traffic), element("div", { class: "shapes" }, versionsOf(versions), drift ? driftOf(drift) : "")];
}

/**
 * @param {NonNullable<Status["traffic"]>} traffic
 */
function trafficOf({ window_s, requests_per_s, p50_ms, p99_ms }) {
  const figures = [
    ["requests/s", fixed(requests_per_s, requests_per_s < 10 ? 1 : 0)],
    ["half within", p50_ms === null ? "–" : `${fixed(p50_ms, 1)} ms`],
    ["99 % within", p99_ms === null ? "–" : `${fixed(p99_ms, 1)} ms`],
  ];
  return element(
    "dl",
    { class: "figures", "aria-label": `The last ${fixed(window_s, 0)} seconds` },
    ...figures.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
}

/**
 * @param {NonNullable<Status["versions"]>} versions
 */
function versionsOf(versions) {
  const rows = versions.map((one) => [
    one.default ? `${one.version}, the default` : one.version,
    one.ready ? "ready" : "not ready",
    one.accuracy === null ? "–" : percent(one.accuracy),
  ]);
  return scrolling("Versions", table("Versions of the model", ["Version", "State", "Accuracy, test images"], rows));
}

/**
 * @param {NonNullable<Status["drift"]>} drift
 */
function driftOf({ images, window: size, figures }) {
  const rows = figures.map(({ name, value, threshold }) => [
    name,
    value === null ? `– (${images} of ${size} images)` : fixed(value, 4),
    fixed(threshold, 4),
    value === null ? "not yet known" : value > threshold ? "unlike the training images" : "like the training images",
  ]);
  return scrolling("Drift", table("Drift: population stability index", ["Figure", "Now", "Threshold", "The images are"], rows));
}

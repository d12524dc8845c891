// Brings the sections up: those that the server has something for.

import { decode } from "./computed/arithmetic.js";
import { byId, element, fill } from "./parts/dom.js";
import { askJSON, config as askConfig } from "./service/api.js";
import { Failure } from "./service/failures.js";
import { askForKey, changes, hasKey } from "./service/key.js";
import { Session } from "./service/session.js";
import { showAnswer } from "./sections/answer.js";
import { showBatch } from "./sections/batch.js";
import { showFilters } from "./sections/filters.js";
import { showLayers } from "./sections/layers.js";
import { showMistakes } from "./sections/mistakes.js";
import { showNetwork } from "./sections/network.js";
import { showPreparation } from "./sections/preparation.js";
import { showService } from "./sections/service.js";
import { showTry } from "./sections/try.js";
import { showWhy } from "./sections/why.js";

/** @import { Config, Mistakes, NetworkFile } from "./types.d.ts" */

async function start() {
  const config = await askConfig();
  const session = new Session(config);
  const title = config.task.name.replaceAll("_", " ");
  fill(byId("brand"), title);
  document.title = `${title}: see what the network sees`;
  showTry(session, showBatch(session));
  showAnswer(session);
  showService();
  if (config.explain) {
    showPreparation(session);
    showWhy(session);
  }
  await Promise.all([network(config, session), mistakes(config, session)]);
  hideLinks();
}

/**
 * @param {Config} config
 * @param {Session} session
 */
async function network(config, session) {
  if (!config.explain) return;
  await withKey(config, async () => {
    const found = decode(/** @type {NetworkFile} */ (await askJSON("/network.json")));
    showNetwork(session, found);
    showFilters(session, found);
    showLayers(found);
  });
}

/**
 * @param {Config} config
 * @param {Session} session
 */
async function mistakes(config, session) {
  if (!config.mistakes) return;
  await withKey(config, async () => showMistakes(session, /** @type {Mistakes} */ (await askJSON("/mistakes.json"))));
}

/**
 * Bring up a section that needs a key where the server asks for keys: now, or as soon as one is given.
 * @param {Config} config
 * @param {() => Promise<void>} show
 */
async function withKey(config, show) {
  const attempt = async () => {
    try {
      await show();
    } catch (error) {
      // A model without it has no such section; what else failed stands where the picture is put in.
      if (!(error instanceof Failure)) throw error;
    }
    hideLinks();
  };
  if (config.keys && !hasKey()) {
    changes.addEventListener("change", attempt, { once: true });
    await askForKey("Predictions, and what explains them, are for those who have a key.");
  } else {
    await attempt();
  }
}

/** The list of contents has what the page has. */
function hideLinks() {
  for (const link of byId("contents").querySelectorAll("a")) {
    const section = byId(link.hash.slice(1));
    const item = /** @type {HTMLElement} */ (link.parentElement);
    item.hidden = section.hidden;
  }
}

start().catch((error) => {
  const again = element("button", { type: "button", onclick: () => location.reload() }, "Try again");
  byId("lead").after(element("p", { class: "message", role: "alert" }, error.message), again);
  if (!(error instanceof Failure)) throw error;
});

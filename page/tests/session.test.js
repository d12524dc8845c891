import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Failure, refusal, silence, unsendable } from "../service/failures.js";
import { Session } from "../service/session.js";

/** @import { Config, Source } from "../types.d.ts" */

const config = /** @type {Config} */ ({
  task: { name: "m", classes: ["a"], geometry: { channels: 1, height: 2, width: 2 } },
  default_version: "1",
  keys: false,
  explain: true,
  mistakes: false,
  prepare: "auto",
  modes: ["auto", "none"],
  limits: { max_body_bytes: 100, max_pixels: 100, max_images: 10 },
  predict: "/predictions/m",
  samples: [],
});
const prediction = { label: "a", index: 0, probabilities: { a: 1 } };

/** @type {{path: string, body: Blob, go: (response: Response) => void}[]} */
let asked = [];
/** @type {string[]} */
let events = [];

beforeEach(() => {
  asked = [];
  events = [];
  globalThis.fetch = (path, request) =>
    new Promise((resolve, reject) => {
      request?.signal?.addEventListener("abort", () => reject(request.signal?.reason));
      asked.push({ path: String(path), body: /** @type {Blob} */ (request?.body), go: resolve });
    });
});

/** @param {Partial<Config>} [other] */
function session(other = {}) {
  const made = new Session({ ...config, ...other });
  for (const name of ["answer", "explanation", "failure", "explanation-failure"]) made.addEventListener(name, () => events.push(name));
  return made;
}

/** @param {string} name @param {Source["origin"]} [origin] @returns {Source} */
const source = (name, origin = "file") => ({ name, body: new Blob(["1234"]), raw: origin === "drawing", origin });
const predicted = (label = "a") => Response.json({ predictions: [{ ...prediction, label }], model_version: "1" });
const explained = (label = "a") =>
  Response.json({ prediction: { ...prediction, label }, model_version: "1", adjusted: [], layers: [], input: { shape: [1, 2, 2], values: [0, 0, 0, 0] } });
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("the answer comes first, then what explains it", async () => {
  const made = session();
  const shown = made.show(source("one"));
  asked[0].go(predicted());
  await turn();
  assert.deepEqual(events, ["answer"]);
  assert.deepEqual(asked.map(({ path }) => path), ["/predictions/m?prepare=auto", "/explain?prepare=auto"]);
  asked[1].go(explained());
  await shown;
  assert.deepEqual(events, ["answer", "explanation"]);
});

test("a later picture's answer counts, and the one before is dropped", async () => {
  const made = session();
  made.show(source("one"));
  const later = made.show(source("two"));
  asked[0].go(predicted("one"));
  asked[1].go(predicted("two"));
  await turn();
  asked[2].go(explained("two"));
  await later;
  assert.equal(made.answer?.prediction.label, "two");
  assert.deepEqual(events, ["answer", "explanation"]);
});

test("of a drawing one request is under way, and the newest is the next", async () => {
  const made = session();
  const drawn = made.draw(source("one", "drawing"));
  made.draw(source("two", "drawing"));
  made.draw(source("three", "drawing"));
  assert.equal(asked.length, 1);
  asked[0].go(explained("one"));
  await turn();
  assert.equal(asked.length, 2);
  asked[1].go(explained("three"));
  await drawn;
  assert.equal(made.drawn, 2);
  assert.ok(asked.every(({ path }) => path === "/explain?prepare=auto&occlusion=0&steps=0"));
  clearTimeout(made.rest);
});

test("without explanations a drawing is predicted", async () => {
  const made = session({ explain: false });
  const drawn = made.draw(source("one", "drawing"));
  asked[0].go(predicted("b"));
  await drawn;
  assert.equal(made.answer?.prediction.label, "b");
  clearTimeout(made.rest);
});

test("an explanation that fails leaves the answer", async () => {
  const made = session();
  const shown = made.show(source("one"));
  asked[0].go(predicted());
  await turn();
  asked[1].go(Response.json({ error: { code: "overloaded", message: "too much waits: send it again" } }, { status: 429 }));
  await shown;
  assert.deepEqual(events, ["answer", "explanation-failure"]);
  assert.equal(made.failure, null);
});

test("an empty file and one that is too long are not sent", async () => {
  const made = session();
  await made.show({ ...source("empty.png"), body: new Blob([]) });
  assert.match(made.failure?.message ?? "", /empty\.png is empty \(0 bytes\)/);
  await made.show({ ...source("long.png"), body: new Blob(["x".repeat(101)]) });
  assert.match(made.failure?.message ?? "", /takes up to 100 bytes/);
  assert.equal(asked.length, 0);
  assert.equal(unsendable({ name: "good.png", size: 100 }, config.limits), null);
});

test("a server's sentence is shown as one, and a proxy's page as its status", async () => {
  const limited = await refusal(Response.json({ error: { code: "overloaded", message: "wait" } }, { status: 429, headers: { "Retry-After": "2" } }));
  assert.equal(limited.message, "Wait.");
  assert.equal(limited.retryAfter_s, 2);
  assert.ok(limited.passes);
  const proxy = await refusal(new Response("<html>", { status: 502, statusText: "Bad Gateway" }));
  assert.match(proxy.message, /502 Bad Gateway/);
  assert.ok(!new Failure("bad_length", "", { status: 400 }).passes);
});

test("being offline is told from a server that is gone", () => {
  for (const [onLine, code] of /** @type {const} */ ([[false, "offline"], [true, "silent"]])) {
    Object.defineProperty(globalThis, "navigator", { value: { onLine }, configurable: true });
    assert.equal(silence().code, code);
  }
});

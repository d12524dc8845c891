import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const page = join(dirname(fileURLToPath(import.meta.url)), "..");
const MOST_LINES = 300;
const MOST_BYTES = 60_000;

/** @param {string} folder @returns {string[]} */
function below(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return ["node_modules", "swagger", "tests"].includes(entry.name) ? [] : below(path);
    return /\.(html|js|css|svg)$/.test(entry.name) ? [path] : [];
  });
}

const served = below(page).filter((path) => !path.endsWith("docs.html"));
const text = (/** @type {string} */ path) => readFileSync(path, "utf8");

test("all that the page needs is within its budget, compressed", () => {
  const bytes = served.reduce((sum, path) => sum + gzipSync(readFileSync(path)).length, 0);
  assert.ok(bytes <= MOST_BYTES, `${bytes} bytes`);
});

test("no module is long", () => {
  const long = served.filter((path) => path.endsWith(".js") && text(path).split("\n").length > MOST_LINES + 1);
  assert.deepEqual(long, []);
});

test("nothing makes markup or code of text, has a style of its own, or names a foreign host", () => {
  const forbidden = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage|sessionStorage|document\.cookie|\sstyle="|\son[a-z]+="/;
  const hosts = /https?:\/\/(?!www\.w3\.org\/)/;
  for (const path of served) {
    const code = text(path).replace(/^\s*(\/\/|\/?\*).*$/gm, "");
    assert.doesNotMatch(code, forbidden, relative(page, path));
    assert.doesNotMatch(code, hosts, relative(page, path));
  }
});

test("every import is of a file that is there", () => {
  for (const path of served.filter((one) => one.endsWith(".js"))) {
    for (const [, name] of text(path).matchAll(/^import .* from "(.*)";$/gm)) assert.ok(served.includes(join(dirname(path), name)), `${path}: ${name}`);
  }
});

test("Swagger UI's files are those of the pinned package", () => {
  const folder = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));
  for (const name of readdirSync(join(page, "swagger")).filter((one) => one !== "docs.js")) {
    assert.deepEqual(readFileSync(join(page, "swagger", name)), readFileSync(join(folder, name)), name);
  }
});

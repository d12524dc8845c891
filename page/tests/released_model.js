// Run the released ONNX model in onnxruntime-web over images, and compare with what the service's runtime computes:
// node released_model.js MODEL IMAGES PROBABILITIES CLASSES, of which IMAGES are uint8 and PROBABILITIES float32.

import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [, , model, images, probabilities, classes] = process.argv;
const BATCH = 500;
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(model));
const pixels = readFileSync(images);
const expected = new Float32Array(new Uint8Array(readFileSync(probabilities)).buffer);
const width = Number(classes);
const count = expected.length / width;
const side = Math.sqrt(pixels.length / count);
let difference = 0;
let labels = 0;
const winner = (/** @type {Float32Array} */ row) => row.indexOf(Math.max(...row));
for (let start = 0; start < count; start += BATCH) {
  const batch = Math.min(BATCH, count - start);
  const data = new Uint8Array(pixels.subarray(start * side * side, (start + batch) * side * side));
  const { data: answered } = /** @type {{data: Float32Array}} */ (
    (await session.run({ [session.inputNames[0]]: new ort.Tensor("uint8", data, [batch, 1, side, side]) }))[session.outputNames[0]]
  );
  for (let image = 0; image < batch; image++) {
    const here = answered.subarray(image * width, (image + 1) * width);
    const there = expected.subarray((start + image) * width, (start + image + 1) * width);
    here.forEach((value, place) => (difference = Math.max(difference, Math.abs(value - there[place]))));
    labels += Number(winner(here) !== winner(there));
  }
}
console.log(JSON.stringify({ images: count, labels_that_differ: labels, largest_difference: difference }));

// The page's questions, answered in the browser by ONNX Runtime Web: no photo and no embedding leaves it.

import * as ort from "./ort.wasm.min.mjs";
import { Detector, crops, decode, encode } from "./vision.js";

const MOST_PIXELS = 100_000_000;
const here = (name) => new URL(name, import.meta.url).href;

ort.env.wasm.numThreads = 1; // several need headers that a static server rarely sends
ort.env.wasm.wasmPaths = { mjs: here("ort-wasm-simd-threaded.mjs"), wasm: here("ort-wasm-simd-threaded.wasm") };

export const where = "Everything is computed in this browser: no photo and no embedding leaves it, and nothing is kept.";
export function useToken() {}

let started = null;
let last = Promise.resolve();

async function open() {
  const told = await (await fetch(here("facts.json"))).json();
  const session = (name) => ort.InferenceSession.create(here(name), { executionProviders: ["wasm"] });
  const [model, yunet] = [await session("model.onnx"), await session("detector.onnx")];
  const detector = new Detector(async (input, height, width) => {
    const out = await yunet.run({ [yunet.inputNames[0]]: new ort.Tensor("float32", input, [1, 3, height, width]) });
    return Object.fromEntries(Object.entries(out).map(([name, { data }]) => [name, data]));
  }, told.detect);
  return { told, model, detector };
}

const opened = () => (started ??= open());

// zoo.inference.embed: the raw embedding of a crop, or the sum over it and its mirror image, made unit-length.
async function embedded({ told, model }, { height, width, data }, flip) {
  const order = told.bgr ? [2, 1, 0] : [0, 1, 2];
  const sums = [];
  for (const mirror of flip ? [false, true] : [false]) {
    const input = new Float32Array(3 * height * width);
    order.forEach((channel, plane) => {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const value = data[3 * (y * width + (mirror ? width - 1 - x : x)) + channel];
          input[(plane * height + y) * width + x] = (value - told.mean[plane]) / told.std[plane];
        }
      }
    });
    const out = await model.run({ [model.inputNames[0]]: new ort.Tensor("float32", input, [1, 3, height, width]) });
    out[model.outputNames[0]].data.forEach((value, n) => (sums[n] = (sums[n] ?? 0) + value));
  }
  const norm = Math.hypot(...sums);
  if (!(norm > 0 && Number.isFinite(norm))) throw new Error("expected a finite embedding other than zero, found none; the model is broken");
  return sums.map((value) => value / norm);
}

// The faces that `rule` picks in a picture, each with its crop, place, notes and unit-length embedding.
export async function embed(blob, name, { rule = null, aligned = false, flip = null } = {}) {
  const loaded = await opened();
  const { told, detector } = loaded;
  const image = await decode(blob, name, MOST_PIXELS);
  const found = await crops(image, name, detector, {
    rule: rule ?? told.face, aligned: aligned || told.aligned, size: told.size, template: told.template, known: told.finder,
  });
  for (const face of found) face.embedding = await embedded(loaded, face.crop, flip ?? told.flip);
  return { size: [image.height, image.width], faces: found };
}

export async function facts() {
  const { told } = await opened();
  return { ...told, people: null, enrol: false, token: false };
}

async function compare(a, b, options) {
  const { told } = await opened();
  const given = options.threshold !== null && options.threshold !== undefined;
  const threshold = given ? Number(options.threshold) : told.threshold;
  if (given && !(threshold >= -1 && threshold <= 1)) throw new Error(`expected a cosine from -1 to 1 as the threshold, found ${options.threshold}`);
  const how = { rule: options.face, aligned: options.aligned, flip: given ? true : null };
  const first = await embed(a, "the first picture", how);
  const second = await embed(b, "the second picture", how);
  let best = { similarity: -Infinity };
  for (const one of first.faces) {
    for (const other of second.faces) {
      const similarity = one.embedding.reduce((sum, value, n) => sum + value * other.embedding[n], 0);
      if (similarity > best.similarity) best = { similarity, one, other };
    }
  }
  const similarity = Math.min(1, Math.max(-1, best.similarity));
  const detected = !(best.one.aligned && best.other.aligned);
  const notes = [...told.notes, ...best.one.notes, ...best.other.notes];
  if (!given) notes.push(...(detected ? told.conditions.detected : told.conditions.aligned));
  const count = first.faces.length * second.faces.length;
  if (count > 1) notes.push(`the most similar two of ${first.faces.length} and ${second.faces.length} faces are compared: ${count} comparisons are as many chances of a false accept`);
  const picture = async ({ size }, { crop, box, landmarks, faces, aligned, embedding }) => ({ size, box, landmarks, faces, aligned, embedding, crop: await encode(crop) });
  return {
    similarity,
    threshold,
    far: given ? null : told.far,
    origin: given ? told.given : told.origin,
    same: threshold === null ? null : similarity > threshold,
    a: await picture(first, best.one),
    b: await picture(second, best.other),
    notes: [...new Set(notes)],
  };
}

// One comparison after the other: a session of ONNX Runtime Web runs one inference at a time.
export function verify(a, b, options) {
  const answer = last.then(() => compare(a, b, options));
  last = answer.catch(() => {});
  return answer;
}

export const identify = async () => { throw new Error("there is no gallery without a server"); };
export const people = identify;
export const enrol = identify;
export const remove = identify;

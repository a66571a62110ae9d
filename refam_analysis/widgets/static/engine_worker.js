/**
 * The worker behind the page: loads the model's files, then answers one question after the other.
 *
 * Takes {load: {base, files, version}} and {ask: {id, picture: {name, pixels}, text, magnets}}; gives
 * {progress}, {ready}, {answer}, {refused} and {failed}. Of questions that wait, only the last is answered.
 */
import { createModel } from "./engine_model.js";
import { PromptError } from "./engine_prompt.js";

const GRAPHS = ["sentence", "picture", "attention", "segmenter-picture", "segmenter-mask"];

let model = null;
const pictures = new Map();
let waiting = null;
let busy = false;

/** A file of the model: fetched with its progress told, and unpacked. */
async function fetched(base, { name, bytes }, version, onBytes) {
  const response = await fetch(`${base}${name}.gz?v=${version}`);
  if (!response.ok) throw new Error(`The server has no ${name}.gz (${response.status}).`);
  const parts = [];
  let read = 0;
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    // A server that unpacks on the way sends more than the file has.
    const grown = Math.min(part.value.length, Math.max(bytes - read, 0));
    read += part.value.length;
    onBytes(grown);
  }
  onBytes(Math.max(bytes - read, 0));
  const packed = new Blob(parts);
  const [first, second] = new Uint8Array(await packed.slice(0, 2).arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return new Uint8Array(await packed.arrayBuffer());
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load({ base, files, version }) {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const onBytes = (bytes) => {
    loaded += bytes;
    postMessage({ progress: { loaded, total } });
  };
  const contents = await Promise.all(files.map(async (file) => [
    file.name, await fetched(base, file, version, onBytes),
  ]));
  postMessage({ progress: { loaded: total, total, starting: true } });
  const named = new Map(contents);
  const ort = await import(`${base}ort.mjs?v=${version}`);
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: named.get("ort.wasm") });
  ort.env.logLevel = "error";
  const graphs = {};
  for (const name of GRAPHS) {
    graphs[name] = await ort.InferenceSession.create(named.get(`${name}.onnx`), { executionProviders: ["wasm"] });
  }
  const about = JSON.parse(new TextDecoder().decode(named.get("about.json")));
  const noise = new Float32Array(named.get("noise.bin").buffer);
  model = createModel({ ort, graphs, about, noise });
  postMessage({ ready: { about, gallery: named.get("gallery.bin") } });
}

/** Encode a picture once. Kept for all questions about it. */
async function looked({ name, pixels }) {
  if (!pictures.has(name)) pictures.set(name, await model.look(pixels));
  return pictures.get(name);
}

async function answer({ id, picture, text, magnets }) {
  const start = performance.now();
  try {
    const found = await model.answer(await looked(picture), text, magnets);
    postMessage({ answer: { ...found, id, seconds: (performance.now() - start) / 1000 } });
  } catch (error) {
    const kind = error instanceof PromptError ? "refused" : "failed";
    postMessage({ [kind]: { id, message: error.message } });
  }
}

async function next() {
  if (busy) return;
  busy = true;
  while (waiting) {
    const question = waiting;
    waiting = null;
    await answer(question);
    // Messages that came meanwhile are handled now, so that an outdated question is dropped.
    await new Promise((resolve) => { setTimeout(resolve, 0); });
  }
  busy = false;
}

globalThis.addEventListener("message", ({ data }) => {
  if (data.load) {
    load(data.load).catch((error) => postMessage({ failed: { id: null, message: error.message } }));
  } else if (data.ask) {
    waiting = data.ask;
    next();
  }
});

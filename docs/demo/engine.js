// The worker that computes: tokens, then ONNX Runtime with the packed ensemble, then what every member says.

import { encoder } from "./tokens.js";

let session, about, encode, ort;
let files; // of files.js

async function file(name) {
  try {
    return await fetch(name, { integrity: files[name].integrity });
  } catch {
    throw new Error(`${name} cannot be loaded: ${await fault(name)}`);
  }
}

// Why a file cannot be loaded, which the browser does not say of one that must have a certain hash.
async function fault(name) {
  try {
    const response = await fetch(name);
    return response.ok ? "it is not the file that files.js lists" : `the server answers ${response.status} ${response.statusText}`.trim();
  } catch (error) {
    return `no answer from the server (${error.message})`;
  }
}

async function module(name) {
  try {
    return await import(`./${name}`);
  } catch (error) {
    await file(name); // says what is wrong with it, which import does not
    throw error;
  }
}

async function start(listed) {
  files = listed;
  const { Tokenizer } = await module("tokenizers.min.mjs");
  ort = await module("ort.wasm.bundle.min.mjs");
  about = await (await file("about.json")).json();
  encode = encoder(Tokenizer, await (await file("tokenizer.json")).json(), await (await file("characters.json")).json(), about.max_length);
  // Threads need memory that is shared, which browsers give to pages only that are isolated from other sites.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.wasmBinary = await (await file("ort-wasm-simd-threaded.wasm")).arrayBuffer();
  const model = new Uint8Array(await (await file("model.onnx")).arrayBuffer());
  try {
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(`ONNX Runtime cannot load model.onnx here: ${error.message}`);
  }
  await classify("the first answer is slow: memory is asked for, code is compiled again", null);
  return { members: about.alphas.length, threads: ort.env.wasm.numThreads, sha: about.tensors_sha256 };
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const exponentials = logits.map((logit) => Math.exp(logit - largest));
  const sum = exponentials.reduce((one, other) => one + other);
  return exponentials.map((value) => value / sum);
}

const named = (shares) => Object.fromEntries(about.labels.map((label, index) => [label, shares[index]]));
const first = (values) => values.indexOf(Math.max(...values)); // of equals the first, as the engine does

async function classify(text, pair) {
  const started = performance.now();
  const { ids, types } = encode(text, pair);
  const row = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, ids.length]);
  const found = await session.run({
    input_ids: row(ids), attention_mask: row(ids.map(() => 1)), token_type_ids: row(types),
  });
  const milliseconds = performance.now() - started;
  const [scores, shares] = [[...found.logits.data], [...found.probabilities.data]];
  const winner = first(scores);
  const count = about.labels.length;
  const members = about.alphas.map((weight, index) => {
    const logits = [...found.member_logits.data.slice(index * count, (index + 1) * count)];
    const probabilities = softmax(logits);
    return { label: about.labels[first(logits)], weight, probabilities: named(probabilities), logits };
  });
  return { label: about.labels[winner], score: shares[winner], probabilities: named(shares), members, milliseconds, ids };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(data.files ? await start(data.files) : await classify(data.text, data.pair));
  } catch (error) {
    self.postMessage({ error: error.message });
  }
};

// The page: starts the engine in a worker of its own, so that it can be read and typed into while the engine loads and
// computes, and shows what it answers as the server's page does.

import { fail, find, show } from "./answer.js";
import { keep } from "./keep.js";

const MEGABYTE = 1e6;
const megabytes = (bytes) => `${(bytes / MEGABYTE).toFixed(1)} MB`;

function say(sentence) {
  find("status").textContent = sentence;
}

// One question at a time: the button is busy until its answer is there.
function ask(engine, question) {
  return new Promise((resolve, reject) => {
    engine.onmessage = ({ data }) => (data.error === undefined ? resolve(data) : reject(new Error(data.error)));
    engine.onerror = (event) => reject(new Error(`engine.js cannot be loaded or ended: ${event.message ?? "no reason given"}`));
    engine.postMessage(question);
  });
}

async function start() {
  if (typeof WebAssembly !== "object") throw new Error("This browser has no WebAssembly, which computes the answer; try another one.");
  const total = Object.values(self.DEMO_FILES).reduce((sum, file) => sum + file.bytes, 0);
  say(`Loading ${megabytes(total)}, once`);
  let offline = "works without network from now on";
  try {
    await keep((loaded) => say(`Loading: ${megabytes(loaded)} of ${megabytes(total)}, once`));
  } catch (error) {
    offline = `needs the network again next time: ${error.message}`;
  }
  say("Unpacking the model");
  const engine = new Worker("engine.js", { type: "module" });
  const about = await ask(engine, { files: self.DEMO_FILES });
  find("model").textContent = `${about.members} members, ${about.threads} thread${about.threads === 1 ? "" : "s"} of this device, `
    + `weights ${about.sha.slice(0, 12)}. What you type stays here.`;
  say(`Ready: ${megabytes(total)} in ${Object.keys(self.DEMO_FILES).length} files; ${offline}.`);
  return engine;
}

async function classify(engine) {
  const button = find("classify");
  if (button.getAttribute("aria-busy") === "true") return; // not disabled, which would take the focus away
  button.setAttribute("aria-busy", "true");
  find("error").hidden = true;
  const pair = find("pair").value;
  try {
    show(await ask(engine, { text: find("text").value, pair: pair === "" ? null : pair }));
  } catch (error) {
    fail(error.message);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

find("form").addEventListener("submit", (event) => event.preventDefault());
try {
  const engine = await start();
  find("form").addEventListener("submit", () => classify(engine));
  find("form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) classify(engine);
  });
  find("classify").disabled = false;
} catch (error) {
  say("This page cannot answer.");
  fail(error.message);
}

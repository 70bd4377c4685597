"use strict";

// Keeps one version of the page: all files of files.js, or none. Browsers compare files.js, too, when they look for a new
// version; the new one waits until no page of the old one is open, so a page never gets files of both.

importScripts("files.js"); // DEMO_VERSION, DEMO_FILES

const PREFIX = "bebert-demo ";
const CACHE = PREFIX + self.DEMO_VERSION;
const SCOPE = new URL("./", self.location).pathname;

async function tell(message) {
  for (const client of await self.clients.matchAll({ includeUncontrolled: true })) client.postMessage(message);
}

async function keepAll() {
  const cache = await caches.open(CACHE);
  let loaded = 0;
  for (const [name, { bytes, integrity }] of Object.entries(self.DEMO_FILES)) {
    try {
      // The browser checks the hash: files of another version, or cut off, are not kept.
      const response = await fetch(name, { cache: "no-cache", integrity });
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      await cache.put(name, response);
    } catch (error) {
      await tell({ error: `${name}: ${error.message}` });
      await caches.delete(CACHE);
      throw error;
    }
    loaded += bytes;
    await tell({ loaded });
  }
  // files.js itself as this worker has it, whatever the server has by now.
  const list = `self.DEMO_VERSION = ${JSON.stringify(self.DEMO_VERSION)};\nself.DEMO_FILES = ${JSON.stringify(self.DEMO_FILES)};\n`;
  await cache.put("files.js", new Response(list, { headers: { "Content-Type": "text/javascript" } }));
}

async function dropOthers() {
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
  }
  await self.clients.claim();
}

async function answer(request, name) {
  const kept = await (await caches.open(CACHE)).match(name, { ignoreVary: true });
  return kept ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(dropOthers()));
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin || !url.pathname.startsWith(SCOPE)) return;
  const name = url.pathname.slice(SCOPE.length) || "index.html";
  if (name === "files.js" || name in self.DEMO_FILES) event.respondWith(answer(event.request, name));
});

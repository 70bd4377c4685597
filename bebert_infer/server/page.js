// Asks POST /votes of the same server, and shows what it answers.

import { fail, find, show } from "./answer.js";

function headers() {
  const token = find("token").value.trim();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function classify(event) {
  event.preventDefault();
  const button = find("classify");
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  find("error").hidden = true;
  const pair = find("pair").value;
  const inputs = pair.trim() ? { text: find("text").value, text_pair: pair } : find("text").value;
  try {
    const response = await fetch("votes", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify({ inputs }),
    });
    const answer = await response.json();
    if (response.status === 401) find("token-row").hidden = false;
    if (response.ok) show(answer);
    else fail(answer.error);
  } catch (error) {
    fail(`The server did not answer: ${error.message}`);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function introduce() {
  const response = await fetch("info", { headers: headers() });
  if (response.status === 401) find("token-row").hidden = false;
  if (!response.ok) return;
  const info = await response.json();
  const members = `${info.members} member${info.members === 1 ? "" : "s"}`;
  find("model").textContent = `${info.model_id}: ${members}, ${info.engine.threads} threads, ${info.model_sha.slice(0, 12)}`;
}

find("form").addEventListener("submit", classify);
find("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) classify(event);
});
find("token").addEventListener("change", () => introduce().catch(() => {}));
introduce().catch(() => {});

// Shows an answer with its votes as bars. Texts of answers are set as text, never as HTML.

export const find = (id) => document.getElementById(id);
const MOST_BARS = 6;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// One share between 0 and 1 as a bar; its length is an attribute, since the page allows no inline style.
function bar(label, share) {
  const row = element("div", undefined, { class: "bar" });
  const percent = `${(100 * share).toFixed(1)} %`;
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${percent}`,
  })) svg.setAttribute(key, value);
  for (const [name, width] of [["track", 100], ["share", 100 * share]]) {
    const rect = document.createElementNS(space, "rect");
    for (const [key, value] of Object.entries({ class: name, height: 8, width, rx: 1 })) rect.setAttribute(key, value);
    svg.append(rect);
  }
  row.append(element("span", label, { title: label }), svg, element("span", percent));
  return row;
}

function bars(answer) {
  const ranked = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
  // One output, or one beyond 0 to 1, is a value and no share.
  if (ranked.some(([, share]) => share < 0 || share > 1) || ranked.length === 1) {
    return ranked.map(([label, value]) => element("div", `${label}: ${value.toFixed(4)}`, { class: "value" }));
  }
  return ranked.slice(0, MOST_BARS).map(([label, share]) => bar(label, share));
}

export function show(answer) {
  const value = Object.keys(answer.probabilities).length === 1;
  find("label").textContent = answer.labels ? answer.labels.join(", ") || "none of the labels" : answer.label;
  find("score").textContent = answer.labels ? "" : value ? answer.score.toFixed(4) : `${(100 * answer.score).toFixed(1)} %`;
  find("labels").replaceChildren(...bars(answer));
  find("votes").replaceChildren(...answer.members.map((member, index) => {
    const item = element("li", undefined, { "data-member": index });
    const who = element("div", undefined, { class: "who" });
    who.append(element("span", `Member ${index + 1}: ${member.label}`),
      element("span", `weight ${member.weight.toFixed(3)}`, { class: "quiet" }));
    item.append(who, ...bars(member));
    return item;
  }));
  find("milliseconds").textContent = `${answer.milliseconds.toFixed(1)} ms`;
  const notes = [];
  if (answer.windows > 1) notes.push(`read in ${answer.windows} windows`);
  if (answer.cut) notes.push(`${answer.cut} tokens at the end were left out`);
  find("note").textContent = notes.map((note) => ` · ${note}`).join("");
  find("result").hidden = false;
}

export function fail(sentence) {
  find("error").textContent = sentence;
  find("error").hidden = false;
  find("result").hidden = true;
}

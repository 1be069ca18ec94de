// What is shown, in the address bar: a link shows the same view.

const DEFAULTS = {
  node: "",
  q: "",
  state: "",
  family: "",
  class: "",
  cluster: "",
  flag: "",
  show: "",
  sort: "",
  colour: "family",
  "colour-class": "",
  selected: "",
  map: "",
};
const view = { ...DEFAULTS };
const selection = new Set();

function readAddress() {
  const given = new URLSearchParams(window.location.hash.slice(1));
  for (const name of Object.keys(DEFAULTS))
    view[name] = given.has(name) ? given.get(name) : DEFAULTS[name];
  selection.clear();
  for (const node of expandRanges(view.selected)) selection.add(node);
}

function address(changes = {}) {
  const all = { ...view, selected: compactRanges(selection), ...changes };
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(all))
    if (value !== DEFAULTS[name]) given.set(name, value);
  return "#" + given.toString();
}

// Filters replace the entry of the history, going to a node adds one: Back leads out of a node.
function writeAddress({ add = false } = {}) {
  const to = address();
  if (to === (window.location.hash || "#")) return;
  if (add) window.history.pushState(null, "", to);
  else window.history.replaceState(null, "", to);
}

function compactRanges(nodes) {
  const sorted = [...nodes].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < sorted.length; i += 1) {
    const from = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i += 1;
    parts.push(sorted[i] === from ? String(from) : `${from}-${sorted[i]}`);
  }
  return parts.join(".");
}
function expandRanges(text) {
  const nodes = [];
  for (const part of text.split(".")) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    if (!match) continue;
    const to = Math.min(Number(match[2] || match[1]), M.n_nodes - 1);
    for (let node = Number(match[1]); node <= to; node += 1) nodes.push(node);
  }
  return nodes;
}

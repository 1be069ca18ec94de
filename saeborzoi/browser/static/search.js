// Which nodes a search and the filters leave, and in which order.

const IUPAC = {
  A: 1,
  C: 2,
  G: 4,
  T: 8,
  U: 8,
  R: 5,
  Y: 10,
  S: 6,
  W: 9,
  K: 12,
  M: 3,
  B: 14,
  D: 13,
  H: 11,
  V: 7,
  N: 15,
};
const IUPAC_COMPLEMENT = {
  A: "T",
  C: "G",
  G: "C",
  T: "A",
  U: "A",
  R: "Y",
  Y: "R",
  S: "S",
  W: "W",
  K: "M",
  M: "K",
  B: "V",
  D: "H",
  H: "D",
  V: "B",
  N: "N",
};
const isPattern = (term) => term.length >= 3 && /^[ACGTURYSWKMBDHVN]+$/i.test(term);

// A consensus letter fits where all that it stands for is in the pattern's letter.
function fits(pattern, consensus) {
  for (let at = 0; at + pattern.length <= consensus.length; at += 1) {
    let i = 0;
    while (i < pattern.length && !(consensus[at + i] & ~pattern[i])) i += 1;
    if (i === pattern.length) return true;
  }
  return false;
}
const masks = (letters) => [...letters.toUpperCase()].map((letter) => IUPAC[letter] || 15);

const SEARCH_FIELDS = lookup({
  tf: "target",
  factor: "target",
  family: "family",
  node: "node",
  motif: "motif",
  class: "class",
  label: "label",
});

// "quoted words" stay together; field:word looks there only; every term must be met.
function parseSearch(query) {
  const terms = [];
  for (const match of query.matchAll(/(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/gi)) {
    const field = match[1] && SEARCH_FIELDS[match[1].toLowerCase()];
    const word = (match[2] !== undefined ? match[2] : match[3]).trim();
    if (match[1] && !field) terms.push({ field: null, word: `${match[1]}:${word}` });
    else if (word) terms.push({ field: field || null, word });
  }
  return terms;
}

// Targets that the search names: nodes that one of them fits as well as the best come first.
function namedTargets(query) {
  const named = new Set();
  const hay = haystacks();
  for (const { field, word } of parseSearch(query)) {
    if (field && field !== "target") continue;
    hay.names.forEach((name, i) => {
      if (name.includes(word.toLowerCase()) || hay.ids[i].startsWith(word.toLowerCase()))
        named.add(i);
    });
  }
  return named;
}
let wanted = new Set();
const isNamed = (node) => D.fits[node].some((target) => wanted.has(target));
// Why a node was found whose name does not say so.
function alsoFound(node) {
  if (!wanted.size || targetOf(node) < 0) return null;
  const fitting = D.fits[node].find((target) => wanted.has(target));
  if (fitting !== undefined && fitsOf(node).indexOf(nameOfTarget(fitting)) < 3) return null;
  const other = fitting ?? D.matches[node].find((target) => wanted.has(target));
  if (other !== undefined) return `also ${nameOfTarget(other)}`;
  const kin = [...wanted].find((target) => familyOfTarget(target) === familyOf(node));
  return kin === undefined ? null : `the family of ${nameOfTarget(kin)}`;
}

let searchCache = null;
function haystacks() {
  if (!searchCache) {
    const lower = (values) => values.map((value) => (value || "").toLowerCase());
    searchCache = {
      names: lower(D.targets.name),
      ids: lower(D.targets.id),
      families: D.targets.family.map((family, i) =>
        `${family || ""} ${familyOfTarget(i) || ""}`.toLowerCase(),
      ),
      classes: D.annotations.map((a) => `${a.class} ${a.annotation}`.toLowerCase()),
      consensus: D.consensus.map((letters) => (letters ? masks(letters) : null)),
    };
  }
  return searchCache;
}

// One term as a test of a node.
function testOf({ field, word }) {
  const hay = haystacks();
  const lower = word.toLowerCase();
  const tests = [];
  if (!field || field === "node") {
    const number = /^n?(\d+)$/.exec(lower);
    if (number) tests.push((node) => node === Number(number[1]));
  }
  if (!field || field === "label")
    tests.push((node) => (labelOf(node) || "").toLowerCase().includes(lower));
  if (!field || field === "target") {
    const found = new Set();
    hay.names.forEach((name, i) => {
      if (name.includes(lower) || hay.ids[i].startsWith(lower)) found.add(i);
    });
    // a paralogue's motif is as good as its own
    const families = new Set([...found].map(familyOfTarget));
    if (found.size)
      tests.push(
        (node) =>
          families.has(familyOf(node)) || D.matches[node].some((target) => found.has(target)),
      );
  }
  if (!field || field === "family") {
    const found = new Set();
    hay.families.forEach((family, i) => {
      if (family.includes(lower)) found.add(i);
    });
    if (found.size) tests.push((node) => D.matches[node].some((target) => found.has(target)));
  }
  if (!field || field === "class") {
    const found = new Set();
    hay.classes.forEach((name, i) => {
      if (name.includes(lower)) for (const node of D.annotations[i].enriched) found.add(node);
    });
    if (found.size) tests.push((node) => found.has(node));
  }
  if ((!field || field === "motif") && isPattern(word)) {
    const forward = masks(word);
    const reverse = masks(
      [...word.toUpperCase()]
        .reverse()
        .map((letter) => IUPAC_COMPLEMENT[letter])
        .join(""),
    );
    tests.push(
      (node) =>
        hay.consensus[node] !== null &&
        (fits(forward, hay.consensus[node]) || fits(reverse, hay.consensus[node])),
    );
  }
  return (node) => tests.some((test) => test(node));
}

function filterTests(view) {
  const tests = parseSearch(view.q).map(testOf);
  if (view.state)
    tests.push(
      view.state === "motif"
        ? (node) => "mu".includes(stateOf(node))
        : (node) => stateOf(node) === view.state,
    );
  if (view.family) tests.push((node) => familyOf(node) === view.family);
  if (view.cluster !== "") tests.push((node) => String(D.cluster[node]) === view.cluster);
  if (view.flag) {
    const bit = 1 << D.flags.indexOf(view.flag);
    tests.push(D.flags.includes(view.flag) ? (node) => D.flag[node] & bit : () => false);
  }
  if (view.class !== "") {
    const found = new Set(
      D.annotations.filter((a) => classKey(a) === view.class).flatMap((a) => a.enriched),
    );
    tests.push((node) => found.has(node));
  }
  if (view.show === "selected") tests.push((node) => selection.has(node));
  if (view.show === "favourites") tests.push((node) => notes.isFavourite(node));
  if (view.show === "notes") tests.push((node) => notes.text(node) !== "");
  return tests;
}
const classKey = (annotation) => `${annotation.annotation}/${annotation.class}`;

const SORT_KEYS = lookup({
  node: () => (node) => node,
  match: () => {
    // rank the names once: comparing ten thousand strings on every click is slow
    const order = D.targets.name.map((_, i) => i);
    const names = order.map((i) => `${familyOfTarget(i)} ${nameOfTarget(i)}`.toLowerCase());
    order.sort((a, b) => (names[a] < names[b] ? -1 : names[a] > names[b] ? 1 : a - b));
    const rank = new Array(order.length);
    order.forEach((target, place) => {
      rank[target] = place;
    });
    return (node) => (D.match[node] < 0 ? null : rank[D.match[node]]);
  },
  motif: () => (node) => D.log10_e[node],
  q: () => (node) => D.log10_q[node],
  seqlets: () => (node) => D.n_seqlets[node],
  frequency: () => (node) => D.frequency[node],
  state: () => (node) => "muxpnd".indexOf(stateOf(node)) * 1e6 + D.flag[node],
});

// The column that the order is shown at; a search without a chosen order ranks by what it names.
const shownSort = () => (view.sort ? view.sort.replace("-", "") : wanted.size ? "" : "q");

// Nodes that pass, in order; what has no value stands last in either direction.
function visibleNodes(view) {
  const tests = filterTests(view);
  const nodes = [];
  for (let node = 0; node < M.n_nodes; node += 1) {
    if (tests.every((test) => test(node))) nodes.push(node);
  }
  const descending = view.sort.startsWith("-");
  const value = (SORT_KEYS[view.sort.replace("-", "")] || SORT_KEYS.q)();
  const sign = descending ? -1 : 1;
  wanted = namedTargets(view.q);
  const byRelevance = view.sort === "" && wanted.size > 0;
  const keyed = nodes.map((node) => ({
    node,
    value: value(node),
    place: byRelevance && !isNamed(node) ? 1 : 0,
  }));
  keyed.sort((a, b) => {
    if (a.place !== b.place) return a.place - b.place;
    if (isMissing(a.value) || isMissing(b.value))
      return isMissing(a.value) - isMissing(b.value) || a.node - b.node;
    return sign * (a.value - b.value) || a.node - b.node;
  });
  return keyed.map((entry) => entry.node);
}

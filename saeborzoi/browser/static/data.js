// Data come as scripts, as a page that is opened from a file may not fetch. Each calls
// saeborzoi(name, document) once. Formats: docs/browser.md.

const FORMAT_VERSION = 1;
const arrived = new Map();
const asked = new Map();
window.saeborzoi = (name, content) => arrived.set(name, content);

class LoadError extends Error {}

function load(name, file = `data/${name}.js`) {
  if (asked.has(name)) return asked.get(name);
  const promise = new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = file;
    script.onload = () => {
      script.remove();
      if (arrived.has(name)) resolve(arrived.get(name));
      else reject(new LoadError(`${file} was read but is damaged; write the site again`));
    };
    script.onerror = () => {
      script.remove();
      reject(
        new LoadError(
          `${file} could not be read; copy the whole folder of the site, or write it again`,
        ),
      );
    };
    document.head.append(script);
  });
  asked.set(name, promise);
  promise.catch(() => asked.delete(name));
  return promise;
}

let D = null; // the overview: columns with one entry a node
let M = null; // its manifest

async function loadOverview() {
  const overview = await load("overview");
  if (overview.manifest.format_version !== FORMAT_VERSION) {
    throw new LoadError(
      `the data have format ${overview.manifest.format_version}, this page reads ${FORMAT_VERSION}; write the site again`,
    );
  }
  D = overview;
  M = overview.manifest;
  try {
    D.labels = lookup(M.labels ? await load("labels", M.labels) : {});
  } catch (error) {
    // the folder of one SAE's pages was copied without what lies beside it
    if (!(error instanceof LoadError)) throw error;
    D.labels = lookup({});
  }
}

// What people call a node, for everybody: `saeborzoi label` writes it.
const labelOf = (node) => (D.labels[node] ? D.labels[node][0] : null);

const pageFileName = (node) =>
  `nodes-${String(Math.floor(node / M.nodes_per_file)).padStart(4, "0")}`;

// One node's page, with its sequences and coordinates unpacked.
async function loadNode(node) {
  const file = await load(pageFileName(node));
  const page = file.nodes[node - file.first];
  if (page.seqlets && !page.rows) page.rows = seqletRows(page.seqlets, file);
  return page;
}

function seqletRows(columns, { chroms, genes }) {
  const { start, width, sequence } = columns;
  const digits = Math.ceil(width / 3);
  let rank = 0;
  return start.map((from, i) => {
    rank += columns.rank[i];
    const length = Array.isArray(width) ? width[i] : width;
    return {
      rank,
      chrom: chroms[columns.chrom[i]],
      start: from,
      end: from + length,
      activation: columns.activation[i],
      gene: columns.gene && columns.gene[i] >= 0 ? genes[columns.gene[i]] : null,
      distance: columns.gene ? columns.distance[i] : null,
      along: columns.along ? columns.along[i] : null,
      step: columns.step,
      sequence: unpackSequence(
        typeof sequence === "string" ? sequence.slice(i * digits, (i + 1) * digits) : sequence[i],
        length,
      ),
    };
  });
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const DIGIT = new Map([...ALPHABET].map((letter, value) => [letter, value]));
const CODONS = Array.from(
  { length: 64 },
  (_, v) => "ACGT"[v >> 4] + "ACGT"[(v >> 2) & 3] + "ACGT"[v & 3],
);

function unpackSequence(packed, length) {
  if (packed.startsWith("!")) return packed.slice(1);
  let sequence = "";
  for (const letter of packed) sequence += CODONS[DIGIT.get(letter)];
  return sequence.slice(0, length);
}

// Rows of four probabilities from digits of 64; rounding is made good by dividing by the sum.
function unpackMatrix(packed) {
  const matrix = [];
  for (let i = 0; i < packed.length; i += 4) {
    const row = [0, 1, 2, 3].map((base) => DIGIT.get(packed[i + base]));
    const sum = row[0] + row[1] + row[2] + row[3] || 1;
    matrix.push(row.map((value) => value / sum));
  }
  return matrix;
}
function rowsOfFour(values) {
  const matrix = [];
  for (let i = 0; i < values.length; i += 4) matrix.push(values.slice(i, i + 4));
  return matrix;
}
const reverseComplement = (matrix) => [...matrix].reverse().map((row) => [...row].reverse());

// State of a node: a letter in the data, a word and a meaning on the page.
const STATES = lookup({
  m: { word: "matched", meaning: "A significant motif was found and it matches a known one." },
  u: {
    word: "motif, no match",
    meaning:
      "A significant motif was found; no known motif matches it, or none well enough and in enough of the seqlets to name the node.",
  },
  x: {
    word: "no motif",
    meaning: "Motifs were searched for in the seqlets and none was significant.",
  },
  p: {
    word: "not yet computed",
    meaning: "The assets that describe this node have not been materialized yet.",
  },
  n: {
    word: "not selected",
    meaning: "The node fires, but its seqlets did not pass the selection.",
  },
  d: { word: "dead", meaning: "The node fires at no position of the data." },
});
const stateOf = (node) => D.states[node];
const targetOf = (node) => D.match[node];
const nameOfTarget = (target) =>
  target < 0 ? null : D.targets.name[target] || D.targets.id[target];
// The family of motifs (archetype) that a node is called by, and its factors that fit as well.
const familyOfTarget = (target) =>
  target < 0 ? null : D.targets.archetype[target] || nameOfTarget(target);
const familyOf = (node) => familyOfTarget(targetOf(node));
const fitsOf = (node) => [...new Set(D.fits[node].map(nameOfTarget))];
function nameOf(node) {
  if (targetOf(node) < 0) return null;
  const fits = fitsOf(node);
  if (fits.length === 1 && fits[0] === familyOf(node)) return fits[0];
  return `${familyOf(node)}: ${fits.slice(0, 3).join(", ")}${fits.length > 3 ? " …" : ""}`;
}
const flagsOf = (node) => D.flags.filter((_, bit) => D.flag[node] & (1 << bit));
const FLAG_MEANINGS = lookup({
  palindrome: "The motif equals its reverse complement.",
  "not enriched":
    "The motif is not surely more frequent in the seqlets than in shuffled ones: the interval of its odds ratio includes 1.",
  mixed:
    "The node has motifs of several families, or a known one in less than half of its seqlets: likely a mixture.",
  "repeat or composition":
    "The node's motif matches nothing known, and no six columns of it say as much as a factor's core: composition, a short word or a repeat.",
  unknown:
    "The node's motif matches nothing known, though it says as much as a factor's: a factor that the database lacks, or a part of the model's own making.",
  dense: "The node fires at more than one position in ten.",
  low_complexity: "The motif is a simple repeat or mere composition, as genomes have many.",
  cpg: "The motif is a run of CG without a pattern of its own.",
  composition: "The motif is as wide as the seqlets and nearly all are its sites: composition.",
  repeat: "The sites are copies of one element of the genome, as repeats are, and count once.",
  few_sites: "The motif has fewer sites than a node's motif needs.",
});

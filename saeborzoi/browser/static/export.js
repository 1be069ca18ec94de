// Take away: nodes as CSV, BED, FASTA, MEME, SVG. Files are made here and handed to the browser.

function saveFile(name, type, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 30000);
  announce(`Saved ${name}`);
}

// A cell that begins like a formula would be run by a spreadsheet.
function csvCell(value) {
  if (isMissing(value)) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+@\t\r-]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
const csv = (head, rows) =>
  [head, ...rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
// BED, FASTA and MEME know no quotes: what separates their fields may not stand in one
const field = (text) => String(text).replace(/\s+/g, "_");

function nodesCsv(nodes) {
  return csv(
    [
      "hyperparameters",
      "node",
      "state",
      "reason",
      "frequency",
      "activation_max",
      "n_seqlets",
      "consensus",
      "log10_e_value",
      "database",
      "target_id",
      "name",
      "archetype",
      "fits_as_well",
      "target_name",
      "factor_family",
      "log10_q_value",
      "umap_1",
      "umap_2",
      "cluster",
      "flags",
      "label",
      "favourite",
      "note",
    ],
    nodes.map((node) => {
      const target = targetOf(node);
      return [
        M.hyperparameters,
        node,
        STATES[stateOf(node)].word,
        D.reason[node] < 0 ? null : D.reasons[D.reason[node]],
        D.frequency[node],
        D.activation_max[node],
        D.n_seqlets[node],
        D.consensus[node],
        D.log10_e[node],
        ...(target < 0
          ? [null, null, null, null, null, null, null]
          : [
              D.targets.database[target],
              D.targets.id[target],
              nameOf(node),
              familyOf(node),
              fitsOf(node).join(" "),
              nameOfTarget(target),
              D.targets.family[target],
            ]),
        D.log10_q[node],
        D.x[node],
        D.y[node],
        D.cluster[node],
        flagsOf(node).join(" "),
        labelOf(node),
        notes.isFavourite(node) ? 1 : 0,
        notes.text(node),
      ];
    }),
  );
}

async function eachPage(nodes, write) {
  const parts = [];
  for (const node of nodes) {
    const page = await loadNode(node);
    parts.push(write(node, page));
    if (parts.length % 500 === 0)
      announce(`${whole(parts.length)} of ${whole(nodes.length)} nodes read`);
  }
  return parts;
}
const seqletName = (node, row) => `node${node}_rank${row.rank}`;

const EXPORTS = {
  csv: {
    word: "CSV",
    what: "one row a node",
    make: async (nodes) => nodesCsv(nodes),
    type: "text/csv",
  },
  "seqlets.csv": {
    word: "CSV of seqlets",
    what: "one row a seqlet",
    type: "text/csv",
    make: async (nodes) =>
      csv(
        [
          "hyperparameters",
          "node",
          "rank",
          "chrom",
          "start_bp",
          "end_bp",
          "activation",
          "sequence",
          "activation_along",
        ],
        (
          await eachPage(nodes, (node, page) =>
            (page.rows || []).map((row) => [
              M.hyperparameters,
              node,
              row.rank,
              row.chrom,
              row.start,
              row.end,
              row.activation,
              row.sequence,
              row.along ? row.along.map((value) => (isMissing(value) ? "NA" : value)).join(" ") : "",
            ]),
          )
        ).flat(),
      ),
  },
  bed: {
    word: "BED",
    what: "intervals of the seqlets",
    type: "text/plain",
    make: async (nodes) =>
      (
        await eachPage(nodes, (node, page) =>
          (page.rows || [])
            .map((row) => {
              const score = Math.round(
                Math.min(
                  1,
                  row.activation / (page.activation ? page.activation.max : row.activation || 1),
                ) * 1000,
              );
              return (
                [field(row.chrom), row.start, row.end, seqletName(node, row), score, "."].join(
                  "\t",
                ) + "\n"
              );
            })
            .join(""),
        )
      ).join(""),
  },
  fasta: {
    word: "FASTA",
    what: "sequences of the seqlets",
    type: "text/plain",
    make: async (nodes) =>
      (
        await eachPage(nodes, (node, page) =>
          (page.rows || [])
            .map(
              (row) =>
                `>${seqletName(node, row)} ${field(row.chrom)}:${row.start}-${row.end} activation=${row.activation}\n${row.sequence}\n`,
            )
            .join(""),
        )
      ).join(""),
  },
  meme: {
    word: "MEME",
    what: "significant motifs",
    type: "text/plain",
    make: async (nodes) =>
      memeText(
        (
          await eachPage(nodes, (node, page) =>
            (page.motifs || [])
              .filter((motif) => motif.significant)
              .map((motif) => ({ node, ...motif })),
          )
        ).flat(),
      ),
  },
  svg: {
    word: "SVG",
    what: "logos of the motifs",
    type: "image/svg+xml",
    make: async (nodes) => logoSheet(nodes),
  },
};

// MEME format of the motifs that the page shows, as `format_meme` in meme_format.py writes it.
function memeText(motifs) {
  const { background, strands } = M.meme;
  const shares = background.map((share, i) => `${"ACGT"[i]} ${share.toFixed(5)}`).join(" ");
  const head = `MEME version 5\n\nALPHABET= ACGT\n\nstrands: ${strands}\n\nBackground letter frequencies\n${shares}\n`;
  return (
    head +
    motifs
      .map((motif) => {
        const rows = rowsOfFour(motif.matrix);
        const lines = rows.map((row) => row.map((p) => p.toFixed(6)).join(" "));
        const name = `node${motif.node}_motif${motif.motif} ${field(motif.consensus || "")}`;
        return (
          `\nMOTIF ${name.trimEnd()}\n` +
          `letter-probability matrix: alength= 4 w= ${rows.length} nsites= ${motif.n_sites} E= ${memeNumber(motif.log10_e)}\n${lines.join("\n")}\n`
        );
      })
      .join("")
  );
}

// A number from its log10, as MEME prints E-values: 2.0e-1834.
function memeNumber(log10) {
  if (isMissing(log10)) return "0";
  let exponent = Math.floor(log10);
  let mantissa = (10 ** (log10 - exponent)).toFixed(1);
  if (mantissa === "10.0") {
    mantissa = "1.0";
    exponent += 1;
  }
  const digits = String(Math.abs(exponent)).padStart(3, "0");
  return `${mantissa}e${exponent < 0 ? "-" : "+"}${digits}`;
}

function svgText(element) {
  const copy = element.cloneNode(true);
  copy.setAttribute("xmlns", SVG);
  for (const part of copy.querySelectorAll("[class]")) {
    const name = part.getAttribute("class");
    if (part.tagName === "text" && !part.hasAttribute("font-family")) {
      part.setAttribute("font-family", "sans-serif");
      part.setAttribute("font-size", "11");
    }
    if (name.includes("axis")) part.setAttribute("stroke", "#5b6672");
    if (name.includes("shared")) part.setAttribute("fill", "#eef2f6");
    part.removeAttribute("class");
  }
  return new XMLSerializer().serializeToString(copy);
}

function logoSheet(nodes) {
  const drawn = nodes.filter((node) => D.matrix[node]);
  const rowHeight = 62;
  const columns = drawn.length > 4 ? 3 : 1;
  const cell = 420;
  const groups = drawn.map((node, i) => {
    const matrix = unpackMatrix(D.matrix[node]);
    const name = nameOf(node);
    const unit = Math.min(14, (cell - 20) / matrix.length);
    return s(
      "g",
      {
        transform: `translate(${10 + (i % columns) * cell} ${Math.floor(i / columns) * rowHeight})`,
      },
      s(
        "text",
        { x: 0, y: 14, "font-size": 11, "font-family": "sans-serif", fill: "#18212b" },
        `node ${node}${name ? ` · ${name}` : ""}`,
      ),
      drawPaths(logoPaths(matrix, { unit, height: 36, top: 20 })),
    );
  });
  const height = Math.max(1, Math.ceil(drawn.length / columns)) * rowHeight;
  const width = columns * cell + 10;
  return svgText(s("svg", { viewBox: `0 0 ${width} ${height}`, width, height }, groups));
}

async function takeAway(kind, nodes, stem) {
  const chosen = EXPORTS[kind];
  try {
    const text = await chosen.make(nodes);
    saveFile(`${field(`${M.hyperparameters || "sae"}.${stem}`)}.${kind}`, chosen.type, text);
  } catch (error) {
    if (!(error instanceof LoadError)) throw error;
    showTrouble(`Nothing was saved: ${error.message}.`, () => takeAway(kind, nodes, stem));
  }
}

// A menu of what can be taken away; `nodes` gives the nodes at the time of the click.
function exportMenu(menu, nodes, stem, what) {
  const close = () => {
    menu.open = false;
  };
  const buttons = Object.entries(EXPORTS).map(([kind, entry]) =>
    h(
      "button",
      {
        type: "button",
        "data-export": kind,
        onclick: () => {
          close();
          return takeAway(kind, nodes(), stem());
        },
      },
      h("b", {}, entry.word),
      h("span", {}, entry.what),
    ),
  );
  const words = h("p", { class: "menu-what" });
  menu.replaceChildren(
    h("summary", {}, "Take away"),
    h(
      "div",
      { class: "menu-list" },
      words,
      buttons,
      h(
        "p",
        { class: "menu-what" },
        `Seqlets: the strongest ${M.seqlets_per_band} of each band of activation, which this site carries.`,
      ),
    ),
  );
  menu.addEventListener("toggle", () => {
    words.textContent = what();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) {
      close();
      menu.querySelector("summary").focus();
      event.stopPropagation();
    }
  });
  document.addEventListener("click", (event) => {
    if (menu.open && !menu.contains(event.target)) close();
  });
}

// What this SAE is, how the pages work, and where the data come from.

function showAbout() {
  const dialog = byId("about");
  dialog.replaceChildren(
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: "about-title" }, "About these pages"),
      h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
    ),
    h(
      "div",
      { class: "dialog-body" },
      h("section", {}, h("h3", {}, "The sparse autoencoder"), saeFacts(), trainingCurves()),
      h(
        "section",
        {},
        h("h3", {}, "States of a node"),
        h(
          "dl",
          { class: "states" },
          Object.entries(STATES).map(([letter, { word, meaning }]) =>
            h(
              "div",
              {},
              h("dt", {}, h("span", { class: `badge state-${letter}` }, word)),
              h("dd", {}, meaning),
            ),
          ),
        ),
      ),
      h(
        "section",
        {},
        h("h3", {}, "Search"),
        h(
          "p",
          {},
          "Words are looked for in factors, families, node numbers, annotation classes (nodes enriched in them) and, where they are IUPAC letters, in the consensus of the motif on either strand. Every word must be met.",
        ),
        h(
          "ul",
          {},
          [
            ["CTCF", "nodes that match a factor of that name"],
            ["CACGTG", "nodes whose motif contains the pattern"],
            ["family:zinc", "a family"],
            ["class:Alu", "nodes enriched in a class"],
            ["motif:GATA", "the pattern only, not the factor"],
            ["node:12", "one node"],
            ['"C4-GATA-related"', "words that belong together"],
          ].map(([example, words]) => h("li", {}, h("code", {}, example), ` ${words}`)),
        ),
      ),
      h(
        "section",
        {},
        h("h3", {}, "Keys"),
        h(
          "dl",
          { class: "keys" },
          [
            ["/", "to the search"],
            ["← →", "previous and next node, on a node's page"],
            ["Esc", "back to the overview"],
            ["↑ ↓ Page Home End", "through the table"],
            ["Enter", "open the node"],
            ["Space", "select the node"],
            ["Arrows + − 0", "move and zoom the map"],
            ["?", "this page"],
          ].map(([key, words]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, words))),
        ),
      ),
      notesSection(),
      h(
        "section",
        {},
        h("h3", {}, "Provenance"),
        provenance(M.provenance),
        h(
          "p",
          { class: "note" },
          `Format ${M.format_version}. The same stands in manifest.json. These pages ask nothing of any network.`,
        ),
      ),
    ),
  );
  dialog.showModal();
}

function saeFacts() {
  if (!D.sae)
    return h("p", { class: "state-box pending" }, "Not yet computed: materialize trained_sae.");
  const sae = D.sae;
  return facts([
    ["layer", sae.layer],
    ["nodes", whole(sae.n_nodes)],
    ["channels", whole(sae.n_channels)],
    ["active nodes a position", whole(sae.k)],
    ["FVU, training", short(sae.fvu)],
    ["FVU, validation", short(sae.validation_fvu)],
    ["L0", short(sae.l0)],
    ["dead nodes", percent(sae.dead_fraction)],
    ["positions", whole(sae.n_positions)],
    ...sae.settings.map(([name, value]) => [
      name,
      typeof value === "string" ? value : short(value),
    ]),
    ["training", isMissing(sae.training_s) ? MISSING : `${short(sae.training_s)} s`],
  ]);
}

function trainingCurves() {
  const splits = Object.entries(D.training);
  if (!splits.length)
    return h("p", { class: "note" }, "No training log: an imported SAE, or not yet computed.");
  return h(
    "div",
    { class: "curves" },
    [
      [1, "fraction of variance unexplained"],
      [2, "share of dead nodes"],
    ].map(([which, words]) => curvePlot(splits, which, words)),
  );
}
function curvePlot(splits, which, words) {
  const width = 300,
    height = 120,
    left = 40,
    top = 10,
    bottom = 32;
  const points = splits.map(([name, columns]) => [
    name,
    columns[0].map((x, i) => [x, columns[which][i]]).filter(([, y]) => !isMissing(y)),
  ]);
  const all = points.flatMap(([, list]) => list);
  if (!all.length) return h("p", { class: "note" }, `${words}: not in the log`);
  const most = Math.max(...all.map(([, y]) => y), 1e-9);
  const last = Math.max(...all.map(([x]) => x), 1);
  const x = (v) => left + (v / last) * width;
  const y = (v) => top + height * (1 - v / most);
  return h(
    "figure",
    { class: "plot" },
    s(
      "svg",
      {
        viewBox: `0 0 ${left + width + 8} ${top + height + bottom}`,
        role: "img",
        "aria-label": `${words}; at the end ${points.map(([name, list]) => `${name} ${list.length ? short(list[list.length - 1][1]) : MISSING}`).join(", ")}`,
      },
      [0, 0.5, 1].map((part) => [
        s("line", {
          x1: left,
          x2: left + width,
          y1: y(part * most),
          y2: y(part * most),
          class: "axis faint",
        }),
        s(
          "text",
          { x: left - 5, y: y(part * most) + 4, class: "tick", "text-anchor": "end" },
          short(part * most, 2),
        ),
      ]),
      points.map(([name, list]) =>
        s("polyline", {
          points: list.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "),
          class: `curve ${name === "train" ? "train" : "validation"}`,
        }),
      ),
      s("text", { x: left, y: top + height + 14, class: "tick" }, "0"),
      s(
        "text",
        { x: left + width, y: top + height + 14, class: "tick", "text-anchor": "end" },
        `${short(last)} positions`,
      ),
    ),
    h(
      "figcaption",
      {},
      words,
      splits.map(([name]) =>
        h("span", { class: `key-line ${name === "train" ? "train" : "validation"}` }, name),
      ),
    ),
  );
}

function notesSection() {
  const words = h("p", { class: "note", role: "status" });
  const file = h("input", { type: "file", id: "notes-file", accept: ".json,application/json" });
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    try {
      words.textContent = `Read the notes of ${plural(notes.read(await file.files[0].text()), "node")}.`;
      refresh();
    } catch (error) {
      words.textContent = `Nothing was read: ${error.message}.`;
    }
  });
  const count = Object.keys(notes.entries).length;
  return h(
    "section",
    {},
    h("h3", {}, "Favourites and notes"),
    h("p", {}, `${plural(count, "node")} with a star or a note, kept in this browser only.`),
    h(
      "div",
      { class: "row" },
      h(
        "button",
        {
          type: "button",
          id: "notes-export",
          onclick: () =>
            saveFile(
              `${field(M.hyperparameters || "sae")}.notes.json`,
              "application/json",
              JSON.stringify(notes.asDocument(), null, 1) + "\n",
            ),
        },
        "Save as a file",
      ),
      h("label", { for: "notes-file" }, "Bring back from a file"),
      file,
    ),
    words,
  );
}

// Provenance is whatever the writer was given: shown as nested lists of names and values.
function provenance(value) {
  if (value === null || typeof value !== "object")
    return h("span", {}, value === null ? MISSING : String(value));
  const entries = Object.entries(value);
  if (!entries.length) return h("span", {}, MISSING);
  return h(
    "dl",
    { class: "provenance" },
    entries.map(([name, inner]) => h("div", {}, h("dt", {}, name), h("dd", {}, provenance(inner)))),
  );
}

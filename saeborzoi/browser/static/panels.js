// What panels share, and those of activation, evidence, annotation, nearest nodes and notes.

function facts(entries) {
  return h(
    "dl",
    { class: "facts" },
    entries
      .filter(Boolean)
      .map(([name, value, title]) => h("div", { title }, h("dt", {}, name), h("dd", {}, value))),
  );
}

function activationPanel(page) {
  const a = page.activation;
  if (!a)
    return panel(
      "activation",
      "Activation",
      notYet("The node's activation was not scanned.", "top_activations"),
    );
  return panel(
    "activation",
    "Activation",
    a.n_nonzero && a.counts.length ? histogram(a) : null,
    facts([
      ["fires at", `${percent(a.frequency)} of positions`],
      ["positions", `${whole(a.n_nonzero)} of ${whole(a.n_positions)}`],
      ["maximum", short(a.max)],
      ["mean where it fires", short(a.mean)],
      ["standard deviation", short(a.std)],
    ]),
  );
}

function histogram({ edges, counts }) {
  const width = 420,
    height = 150,
    left = 46,
    bottom = 34,
    top = 8;
  const most = Math.max(...counts, 1);
  const decades = Math.max(1, Math.ceil(Math.log10(most)));
  // one position stands a little above the axis, so that it can be told from none
  const y = (count) => top + height * (1 - (Math.log10(count) + 0.25) / (decades + 0.25));
  const low = edges[0],
    high = edges[edges.length - 1];
  // bins that grow with the activation are shown as wide as they were meant: evenly, on a log axis
  const n = counts.length;
  const isLog = low > 0 && edges[n] - edges[n - 1] > 1.2 * (edges[1] - edges[0]);
  const scale = isLog ? Math.log : (value) => value;
  const span = scale(high) - scale(low) || 1;
  const x = (value) => left + ((scale(value) - scale(low)) / span) * width;
  const at = (part) => (isLog ? low * (high / low) ** part : low + part * (high - low));
  const bars = counts.map(
    (count, i) =>
      count > 0 &&
      s(
        "rect",
        {
          x: x(edges[i]) + 0.4,
          y: y(count),
          width: Math.max(0.6, x(edges[i + 1]) - x(edges[i]) - 0.8),
          height: Math.max(0, top + height - y(count)),
          class: "bar-fill",
        },
        s("title", {}, `${short(edges[i])} – ${short(edges[i + 1])}: ${plural(count, "position")}`),
      ),
  );
  const ticks = Array.from({ length: decades + 1 }, (_, i) => [
    s("line", { x1: left, x2: left + width, y1: y(10 ** i), y2: y(10 ** i), class: "axis faint" }),
    s(
      "text",
      { x: left - 6, y: y(10 ** i) + 4, class: "tick", "text-anchor": "end" },
      i < 4 ? whole(10 ** i) : `1e${i}`,
    ),
  ]);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) =>
    s(
      "text",
      {
        x: x(at(part)),
        y: top + height + 15,
        class: "tick",
        "text-anchor": part === 1 ? "end" : part ? "middle" : "start",
      },
      short(at(part)),
    ),
  );
  return h(
    "figure",
    { class: "plot" },
    s(
      "svg",
      {
        viewBox: `0 0 ${left + width + 6} ${top + height + bottom}`,
        role: "img",
        "aria-label": `Histogram of the activation, ${plural(counts.length, "bin")}, log axis, from ${short(low)} to ${short(high)}; the fullest bin has ${plural(most, "position")}`,
      },
      ticks,
      bars,
      s("line", { x1: left, x2: left + width, y1: top + height, y2: top + height, class: "axis" }),
      marks,
      s(
        "text",
        { x: left + width / 2, y: top + height + 30, class: "tick", "text-anchor": "middle" },
        isLog ? "activation, both axes log" : "activation, positions on a log axis",
      ),
    ),
  );
}

function evidencePanel(node, page) {
  const selected = page.selection;
  const motif = (page.motifs || []).find((each) => each.significant) || (page.motifs || [])[0];
  const interval =
    motif && !isMissing(motif.odds[0])
      ? `${short(motif.odds[0])} (${short(motif.odds[1])} – ${short(motif.odds[2])})`
      : MISSING;
  return panel(
    "evidence",
    "Evidence",
    facts([
      selected && [
        "selection",
        selected.selected ? "passed" : `failed: ${selected.reason || "no reason recorded"}`,
      ],
      selected && [
        "seqlets",
        `${whole(selected.n_seqlets)}, ${whole(selected.n_strong)} strong, ${whole(selected.n_dropped)} dropped`,
        "dropped: at a chromosome's end or not ACGT",
      ],
      motif && [
        "motif",
        `${motif.motif} of ${page.motifs.length}, ${motif.engine || "engine not recorded"}`,
      ],
      motif && [
        "odds against shuffled seqlets",
        interval,
        "occurrence of the motif, 95 % interval",
      ],
      motif && ["enrichment p", probability(motif.enrichment_p), "Fisher's exact test, one-sided"],
      motif && ["odds against other nodes", short(motif.odds[3])],
      motif && [
        "odds against the genome",
        short(motif.odds[4]),
        "places anywhere in the data, of the seqlets' composition",
      ],
      motif && [
        "odds against untrained nodes",
        isMissing(motif.odds[5]) ? "no such dictionary" : short(motif.odds[5]),
        "seqlets of an untrained dictionary of the same layer and shape",
      ],
      motif && ["false discovery rate", probability(motif.fdr)],
      motif && [
        "activation ~ motif score",
        isMissing(motif.spearman) ? MISSING : `ρ = ${short(motif.spearman, 2)}`,
        "rank correlation over the seqlets",
      ],
      !isMissing(D.cluster[node]) && [
        "cluster on the map",
        clusterWords(clusterOf(D.cluster[node])),
        clusterTip(clusterOf(D.cluster[node])),
      ],
    ]),
    motif &&
      !isMissing(motif.fdr) &&
      h(
        "p",
        { class: "note" },
        `Of the motifs of this SAE with a rate of at most ${probability(motif.fdr)}, this share is expected to be no more frequent in its node’s seqlets than in one of the controls above. `,
        isMissing(motif.odds[5])
          ? "None of them is an untrained dictionary: the rate tells a motif from noise, not training from random directions."
          : "",
      ),
    h(
      "p",
      { class: "flags-line" },
      flagsOf(node).length
        ? flagsOf(node).map((flag) => [
            flagMark(flag),
            h("span", { class: "note" }, ` ${FLAG_MEANINGS[flag] || "The motif is suspect."} `),
          ])
        : h("span", { class: "note" }, "Nothing suspect."),
    ),
  );
}

function overlapPanel(page) {
  if (!page.overlaps)
    return panel(
      "overlaps",
      "Annotation",
      M.computed.annotation_overlap
        ? h("p", { class: "note" }, "No annotation class was counted for this node.")
        : notYet("The seqlets were not compared with the annotation.", "annotation_overlaps"),
    );
  const rows = [...page.overlaps].sort((a, b) => (b[5] ?? -Infinity) - (a[5] ?? -Infinity));
  const make = (list) =>
    h(
      "table",
      { class: "overlaps" },
      h(
        "caption",
        { class: "visually-hidden" },
        "Seqlets that overlap each annotation class, against shuffled intervals",
      ),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Class"),
          h(
            "th",
            {
              scope: "col",
              class: "num",
              title: "seqlets that overlap, and the mean of the shuffled control",
            },
            "Seen / shuffled",
          ),
          h("th", { scope: "col", class: "num", title: "against the shuffled control" }, "z"),
          h("th", { scope: "col", class: "num" }, "Odds ratio, 95 %"),
          h("th", { scope: "col" }, "¼ · 1 · 4"),
        ),
      ),
      h(
        "tbody",
        {},
        list.map(([which, , seen, expected, , z, odds, low, high]) =>
          h(
            "tr",
            {},
            h(
              "th",
              { scope: "row" },
              D.annotations[which].class,
              h("span", { class: "family" }, D.annotations[which].annotation),
            ),
            h("td", { class: "num" }, `${whole(seen)} / ${short(expected)}`),
            h("td", { class: "num" }, short(z, 2)),
            h(
              "td",
              { class: "num" },
              h("b", {}, short(odds, 2)),
              h("span", { class: "family" }, `${short(low, 2)} – ${short(high, 2)}`),
            ),
            h("td", {}, forest(odds, low, high)),
          ),
        ),
      ),
    );
  return panel(
    "overlaps",
    "Annotation",
    h("div", { class: "scroll" }, make(rows.slice(0, 8))),
    rows.length > 8
      ? h(
          "details",
          { class: "more" },
          h("summary", {}, `${rows.length - 8} more classes`),
          h("div", { class: "scroll" }, make(rows.slice(8))),
        )
      : null,
  );
}

// An odds ratio and its interval between 1/16 and 16, with 1 in the middle.
function forest(odds, low, high) {
  if (isMissing(odds)) return MISSING;
  const x = (value) => 50 + (Math.min(4, Math.max(-4, Math.log2(Math.max(value, 1e-9)))) / 4) * 46;
  const side = !isMissing(low) && low > 1 ? "up" : !isMissing(high) && high < 1 ? "down" : "even";
  return s(
    "svg",
    {
      class: `forest ${side}`,
      viewBox: "0 0 100 16",
      width: 100,
      height: 16,
      role: "img",
      "aria-label": `odds ratio ${short(odds, 2)}`,
    },
    s("line", { x1: 50, x2: 50, y1: 0, y2: 16, class: "axis" }),
    s("line", { x1: 27, x2: 27, y1: 4, y2: 12, class: "axis faint" }),
    s("line", { x1: 73, x2: 73, y1: 4, y2: 12, class: "axis faint" }),
    isMissing(low) || isMissing(high)
      ? null
      : s("line", { x1: x(low), x2: x(high), y1: 8, y2: 8, class: "interval" }),
    s("circle", { cx: x(odds), cy: 8, r: 3.6, class: "dot" }),
  );
}

const NEAR = {
  jaccard: [
    "by shared seqlets",
    "Jaccard index of the base pairs that both cover",
    "node_jaccard",
    "jaccard_matrix",
  ],
  together: [
    "by firing together",
    "positions where both fire / positions where either does, over all the data",
    null,
    "top_activations",
  ],
  decoder: ["by decoder", "cosine of the decoder directions", null, "trained_sae"],
  motif: [
    "by motif",
    "similarity of the motifs at their best alignment, either strand",
    "motif",
    "meme_motifs",
  ],
};
function nearPanel(node, page) {
  return panel(
    "near",
    "Nearest nodes",
    h(
      "div",
      { class: "near" },
      Object.entries(NEAR).map(([kind, [words, meaning, tableName, asset]]) => {
        const found = page.near[kind];
        const why =
          tableName === null || M.computed[tableName]
            ? tableName === null
              ? `Not yet computed: ${asset}`
              : "none"
            : `Not yet computed: ${asset}`;
        return h(
          "div",
          {},
          h("h4", { title: meaning }, words),
          found
            ? h(
                "ol",
                {},
                found[0].map((other, i) =>
                  h(
                    "li",
                    {},
                    nodeLink(
                      other,
                      h("span", { class: "near-node" }, String(other)),
                      h(
                        "span",
                        { class: "near-name" },
                        labelOf(other) || nameOf(other) || STATES[stateOf(other)].word,
                      ),
                    ),
                    D.matrix[other]
                      ? smallLogo(unpackMatrix(D.matrix[other]), `motif ${D.consensus[other]}`)
                      : null,
                    h("span", { class: "near-value" }, short(found[1][i], 2)),
                  ),
                ),
              )
            : h("p", { class: "note" }, why),
        );
      }),
    ),
  );
}

function notePanel(node) {
  const area = h("textarea", { id: "note", rows: "3", placeholder: "What you think this node is" });
  area.value = notes.text(node);
  area.addEventListener("input", () => notes.set(node, { note: area.value }));
  return panel(
    "note",
    "Note",
    h(
      "label",
      { for: "note", class: "note" },
      "Kept in this browser only; take notes away under About.",
    ),
    area,
  );
}

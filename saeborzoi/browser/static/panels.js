// The panels of a node's page.

function facts(entries) {
  return h("dl", { class: "facts" }, entries.filter(Boolean).map(([name, value, title]) => h("div", { title }, h("dt", {}, name), h("dd", {}, value))));
}

function motifPanel(page) {
  if (!page.motifs) return panel("motif", "Motif", notYet("No motif was searched for.", "meme_motifs"));
  const significant = page.motifs.filter((motif) => motif.significant);
  const rest = page.motifs.filter((motif) => !motif.significant);
  const parts = [];
  if (!significant.length) {
    parts.push(h("div", { class: "state-box nomotif" }, h("h4", {}, "No significant motif"),
      h("p", {}, rest.length ? "Motifs were found, but none below the E-value of the settings and free of artefacts. They are shown for what they are."
        : "The search ran on this node's seqlets and found none.")));
  }
  return panel("motif", significant.length > 1 ? "Motifs" : "Motif", parts, significant.map(motifBlock),
    rest.length ? h("details", { class: "more", open: !significant.length }, h("summary", {}, plural(rest.length, "motif") + " that did not count"), rest.map(motifBlock)) : null);
}

function motifBlock(motif) {
  const matrix = rowsOfFour(motif.matrix);
  const name = `Motif ${motif.motif}`;
  return h("div", { class: "motif" },
    h("div", { class: "motif-head" }, h("h4", {}, name), h("code", { class: "consensus" }, motif.consensus || ""),
      motif.artefact ? h("span", { class: "flag", title: FLAG_MEANINGS[motif.artefact] || null }, `artefact: ${motif.artefact}`) : null,
      !motif.significant && !motif.artefact ? h("span", { class: "flag" }, "not significant") : null,
      h("span", { class: "motif-facts" }, `E ${plainScientific(motif.log10_e)} · ${plural(motif.n_sites, "site")} · ${short(motif.bits)} bits · ${matrix.length} bp`)),
    h("div", { class: "strands" },
      h("figure", {}, h("div", { class: "scroll" }, fullLogo(matrix, `${name}, forward: ${motif.consensus}`)), h("figcaption", {}, "forward")),
      h("figure", {}, h("div", { class: "scroll" }, fullLogo(reverseComplement(matrix), `${name}, reverse complement`)), h("figcaption", {}, motif.palindrome ? "reverse complement (palindrome)" : "reverse complement"))));
}

function matchPanel(node, page, targets) {
  if (!page.motifs || !page.motifs.some((motif) => motif.significant)) return null;
  if (!page.matches && !M.computed.motif_match) return panel("matches", "Known motifs", notYet("The motif was not compared with known ones.", "tomtom_matches"));
  const rows = page.matches || [];
  const good = rows.filter((row) => row[8]);
  const shown = good.length ? good : rows;
  if (!rows.length) return panel("matches", "Known motifs", h("p", { class: "state-box nomotif" }, h("b", {}, "No match. "), "The motif was compared with the databases and nothing in them is like it."));
  return panel("matches", "Known motifs",
    good.length ? null : h("p", { class: "state-box nomotif" }, h("b", {}, "No significant match. "), "The nearest known motifs are shown for comparison."),
    shown.slice(0, 3).map((row) => matchBlock(page, targets, row)),
    shown.length > 3 ? h("details", { class: "more" }, h("summary", {}, `${shown.length - 3} more`), shown.slice(3).map((row) => matchBlock(page, targets, row))) : null);
}

function matchBlock(page, targets, [number, target, p, q, e, offset, overlap, strand]) {
  const motif = page.motifs.find((each) => each.motif === number);
  const packed = targets[target];
  const name = nameOfTarget(target);
  const known = packed ? unpackMatrix(packed) : null;
  const turned = known && strand === "-" ? reverseComplement(known) : known;
  const family = D.targets.family[target];
  return h("div", { class: "match" },
    h("div", { class: "match-head" }, h("b", {}, name), h("span", { class: "family" }, [D.targets.id[target], D.targets.database[target], family, D.targets.class[target]].filter(Boolean).join(" · "))),
    h("div", {},
      h("div", { class: "scroll" }, motif ? alignmentLogo(rowsOfFour(motif.matrix), turned, offset || 0, `Motif ${number} over ${name}, offset ${offset} bp, strand ${strand}`) : null,
        known ? null : h("p", { class: "note" }, "The matrix of this target is not in the site; the motif stands alone.")),
      facts([["motif", String(number)], ["p", short(p)], ["q", short(q)], ["E", short(e)], ["offset", isMissing(offset) ? MISSING : `${offset} bp`, "start of the target minus start of the motif"], ["overlap", isMissing(overlap) ? MISSING : `${overlap} bp`], ["strand", strand === "-" ? "− (target turned)" : strand || MISSING]])));
}

const BAND_NAMES = ["above 0.75 of the maximum", "0.5 – 0.75", "0.25 – 0.5", "below 0.25"];

function seqletPanel(node, page, isQuiet) {
  if (!page.seqlets) return panel("seqlets", "Seqlets", isQuiet ? h("p", { class: "note" }, "A node that is not selected has no catalogued seqlets.") : notYet("No seqlets were made.", "seqlets"));
  if (!page.rows.length) return panel("seqlets", "Seqlets", h("p", { class: "note" }, "The node has no seqlets: none of its top positions lies where a sequence can be read."));
  const motif = (page.motifs || []).find((each) => each.significant) || (page.motifs || [])[0];
  const score = motif ? scorer(rowsOfFour(motif.matrix)) : null;
  const max = (page.activation && page.activation.max) || page.rows[0].activation;
  const bands = [[], [], [], []];
  const placed = page.rows.map((row) => placeSeqlet(row, motif, score));
  const first = Math.min(...placed.map((each) => each.lead));
  for (const each of placed) {
    each.lead -= first;
    const part = each.row.activation / max;
    bands[part >= M.bands[0] ? 0 : part >= M.bands[1] ? 1 : part >= M.bands[2] ? 2 : 3].push(each);
  }
  return panel("seqlets", "Seqlets", h("p", { class: "note" },
    motif ? `Lined up where motif ${motif.motif} fits best, on its strand (− marks those turned to the other strand). ` : "In the order of the genome, not lined up: there is no motif. ",
    "Each band of activation shows its strongest; the site carries up to ", String(M.seqlets_per_band), " of each.",
    M.assembly ? null : " The genome's assembly is not known, so coordinates have no link."),
  bands.map((rows, band) => bandBlock(rows, page.seqlets.in_band[band], band, max)));
}

function bandBlock(rows, total, band, max) {
  const title = h("h4", {}, BAND_NAMES[band], h("span", { class: "count" }, total ? `${plural(total, "seqlet")}${rows.length < total ? `, ${rows.length} carried` : ""}` : "none among the strongest positions"));
  if (!rows.length) return h("div", { class: "band" }, title);
  const list = h("div", { class: "seqlets" });
  const show = (n) => list.replaceChildren(...rows.slice(0, n).map((each) => seqletLine(each, max)));
  const first = 8;
  show(first);
  const more = rows.length > first && h("button", { type: "button", class: "link", onclick: () => { show(rows.length); more.remove(); } }, `Show all ${rows.length}`);
  return h("div", { class: "band" }, title, h("div", { class: "scroll" }, list), more);
}

// A seqlet on the strand of the motif; `lead` is where its first base stands when the motif's first
// column stands at 0.
function placeSeqlet(row, motif, score) {
  const hit = score ? score(row.sequence) : null;
  if (!hit || hit.score === -Infinity) return { row, sequence: row.sequence, lead: 0, from: 0, to: 0, strand: "+" };
  const width = motif.matrix.length / 4;
  const turned = hit.strand === "-";
  const from = turned ? row.sequence.length - hit.at - width : hit.at;
  return { row, sequence: turned ? reverseSequence(row.sequence) : row.sequence, lead: -from, from, to: from + width, strand: hit.strand };
}

function seqletLine({ row, sequence, lead, from, to, strand }, max) {
  const cells = [...sequence].map((base, i) =>
    h("span", { class: `nt nt-${BASES.includes(base) ? base : "N"}${i >= from && i < to ? " in" : ""}` }, base));
  const where = `${row.chrom}:${(row.start + 1).toLocaleString("en-US")}-${row.end.toLocaleString("en-US")}`;
  return h("div", { class: "seqlet" },
    h("span", { class: "rank", title: "rank among the node's positions" }, String(row.rank + 1)),
    h("span", { class: "meter", title: `activation ${row.activation}, ${percent(row.activation / max)} of the maximum` },
      h("i", { style: { width: `${Math.min(100, (100 * row.activation) / max)}%` } }), h("span", {}, short(row.activation))),
    h("span", { class: "strand", title: "strand" }, strand === "-" ? "−" : "+"),
    h("span", { class: "sequence", role: "img", "aria-label": sequence, style: { paddingLeft: `${lead}ch` } }, cells),
    M.assembly
      ? h("a", { class: "where", href: ucscLink(row), target: "_blank", rel: "noopener noreferrer", title: "Opens in the UCSC genome browser" }, where)
      : h("span", { class: "where" }, where));
}
function ucscLink(row) {
  const margin = 100;
  const query = new URLSearchParams({ db: M.assembly, position: `${row.chrom}:${Math.max(1, row.start + 1 - margin)}-${row.end + margin}` });
  return `https://genome.ucsc.edu/cgi-bin/hgTracks?${query}`;
}

function activationPanel(page) {
  const a = page.activation;
  if (!a) return panel("activation", "Activation", notYet("The node's activation was not scanned.", "top_activations"));
  return panel("activation", "Activation", a.n_nonzero && a.counts.length ? histogram(a) : null, facts([
    ["fires at", `${percent(a.frequency)} of positions`], ["positions", `${whole(a.n_nonzero)} of ${whole(a.n_positions)}`],
    ["maximum", short(a.max)], ["mean where it fires", short(a.mean)], ["standard deviation", short(a.std)]]));
}

function histogram({ edges, counts }) {
  const width = 420, height = 150, left = 46, bottom = 34, top = 8;
  const most = Math.max(...counts, 1);
  const decades = Math.max(1, Math.ceil(Math.log10(most)));
  // one position stands a little above the axis, so that it can be told from none
  const y = (count) => top + height * (1 - (Math.log10(count) + 0.25) / (decades + 0.25));
  const low = edges[0], high = edges[edges.length - 1];
  const x = (value) => left + ((value - low) / (high - low || 1)) * width;
  const bars = counts.map((count, i) => count > 0 && s("rect", { x: x(edges[i]) + 0.4, y: y(count), width: Math.max(0.6, x(edges[i + 1]) - x(edges[i]) - 0.8), height: Math.max(0, top + height - y(count)), class: "bar-fill" },
    s("title", {}, `${short(edges[i])} – ${short(edges[i + 1])}: ${plural(count, "position")}`)));
  const ticks = Array.from({ length: decades + 1 }, (_, i) => [
    s("line", { x1: left, x2: left + width, y1: y(10 ** i), y2: y(10 ** i), class: "axis faint" }),
    s("text", { x: left - 6, y: y(10 ** i) + 4, class: "tick", "text-anchor": "end" }, i < 4 ? whole(10 ** i) : `1e${i}`)]);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => s("text", { x: x(low + part * (high - low)), y: top + height + 15, class: "tick", "text-anchor": part === 1 ? "end" : part ? "middle" : "start" }, short(low + part * (high - low))));
  return h("figure", { class: "plot" }, s("svg", { viewBox: `0 0 ${left + width + 6} ${top + height + bottom}`, role: "img", "aria-label": `Histogram of the activation, ${plural(counts.length, "bin")}, log axis, from ${short(low)} to ${short(high)}; the fullest bin has ${plural(most, "position")}` },
    ticks, bars, s("line", { x1: left, x2: left + width, y1: top + height, y2: top + height, class: "axis" }), marks,
    s("text", { x: left + width / 2, y: top + height + 30, class: "tick", "text-anchor": "middle" }, "activation (positions on a log axis)")));
}

function evidencePanel(node, page) {
  const selected = page.selection;
  const motif = (page.motifs || []).find((each) => each.significant) || (page.motifs || [])[0];
  const interval = motif && !isMissing(motif.odds[0]) ? `${short(motif.odds[0])} (${short(motif.odds[1])} – ${short(motif.odds[2])})` : MISSING;
  return panel("evidence", "Evidence", facts([
    selected && ["selection", selected.selected ? "passed" : `failed: ${selected.reason || "no reason recorded"}`],
    selected && ["seqlets", `${whole(selected.n_seqlets)}, ${whole(selected.n_strong)} strong, ${whole(selected.n_dropped)} dropped`, "dropped: at a chromosome's end or not ACGT"],
    motif && ["motif", `${motif.motif} of ${page.motifs.length}, ${motif.engine || "engine not recorded"}`],
    motif && ["odds against shuffled seqlets", interval, "occurrence of the motif, 95 % interval"],
    motif && ["odds against other nodes", short(motif.odds[3])],
    motif && ["false discovery rate", short(motif.fdr)],
    motif && ["activation ~ motif score", isMissing(motif.spearman) ? MISSING : `ρ = ${short(motif.spearman, 2)}`, "rank correlation over the seqlets"],
    !isMissing(D.cluster[node]) && ["cluster on the map", String(D.cluster[node])],
  ]), h("p", { class: "flags-line" }, flagsOf(node).length ? flagsOf(node).map((flag) => [h("span", { class: "flag" }, flag), h("span", { class: "note" }, ` ${FLAG_MEANINGS[flag] || "The motif is suspect."} `)]) : h("span", { class: "note" }, "No artefact flag.")));
}

function overlapPanel(page) {
  if (!page.overlaps) return panel("overlaps", "Annotation", M.computed.annotation_overlap ? h("p", { class: "note" }, "No annotation class was counted for this node.") : notYet("The seqlets were not compared with the annotation.", "annotation_overlaps"));
  const rows = [...page.overlaps].sort((a, b) => (b[5] ?? -Infinity) - (a[5] ?? -Infinity));
  const make = (list) => h("table", { class: "overlaps" },
    h("caption", { class: "visually-hidden" }, "Seqlets that overlap each annotation class, against shuffled intervals"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Class"), h("th", { scope: "col", class: "num", title: "seqlets that overlap, and the mean of the shuffled control" }, "Seen / shuffled"), h("th", { scope: "col", class: "num", title: "against the shuffled control" }, "z"), h("th", { scope: "col", class: "num" }, "Odds ratio, 95 %"), h("th", { scope: "col" }, "¼ · 1 · 4"))),
    h("tbody", {}, list.map(([which, , seen, expected, , z, odds, low, high]) => h("tr", {},
      h("th", { scope: "row" }, D.annotations[which].class, h("span", { class: "family" }, D.annotations[which].annotation)),
      h("td", { class: "num" }, `${whole(seen)} / ${short(expected)}`), h("td", { class: "num" }, short(z, 2)),
      h("td", { class: "num" }, h("b", {}, short(odds, 2)), h("span", { class: "family" }, `${short(low, 2)} – ${short(high, 2)}`)),
      h("td", {}, forest(odds, low, high))))));
  return panel("overlaps", "Annotation", h("div", { class: "scroll" }, make(rows.slice(0, 8))),
    rows.length > 8 ? h("details", { class: "more" }, h("summary", {}, `${rows.length - 8} more classes`), h("div", { class: "scroll" }, make(rows.slice(8)))) : null);
}

// An odds ratio and its interval between 1/16 and 16, with 1 in the middle.
function forest(odds, low, high) {
  if (isMissing(odds)) return MISSING;
  const x = (value) => 50 + (Math.min(4, Math.max(-4, Math.log2(Math.max(value, 1e-9)))) / 4) * 46;
  const side = !isMissing(low) && low > 1 ? "up" : !isMissing(high) && high < 1 ? "down" : "even";
  return s("svg", { class: `forest ${side}`, viewBox: "0 0 100 16", width: 100, height: 16, role: "img", "aria-label": `odds ratio ${short(odds, 2)}` },
    s("line", { x1: 50, x2: 50, y1: 0, y2: 16, class: "axis" }),
    s("line", { x1: 27, x2: 27, y1: 4, y2: 12, class: "axis faint" }), s("line", { x1: 73, x2: 73, y1: 4, y2: 12, class: "axis faint" }),
    isMissing(low) || isMissing(high) ? null : s("line", { x1: x(low), x2: x(high), y1: 8, y2: 8, class: "interval" }),
    s("circle", { cx: x(odds), cy: 8, r: 3.6, class: "dot" }));
}

const NEAR = {
  jaccard: ["by shared seqlets", "Jaccard index of the base pairs that both cover", "node_jaccard", "jaccard_matrix"],
  decoder: ["by decoder", "cosine of the decoder directions", null, "trained_sae"],
  motif: ["by motif", "similarity of the motifs at their best alignment, either strand", "motif", "meme_motifs"],
};
function nearPanel(node, page) {
  return panel("near", "Nearest nodes", h("div", { class: "near" }, Object.entries(NEAR).map(([kind, [words, meaning, tableName, asset]]) => {
    const found = page.near[kind];
    const why = tableName === null || M.computed[tableName] ? (kind === "decoder" ? `Not yet computed: ${asset}` : "none") : `Not yet computed: ${asset}`;
    return h("div", {}, h("h4", { title: meaning }, words), found
      ? h("ol", {}, found[0].map((other, i) => h("li", {}, nodeLink(other, h("span", { class: "near-node" }, String(other)), h("span", { class: "near-name" }, nameOfTarget(targetOf(other)) || STATES[stateOf(other)].word)),
        D.matrix[other] ? smallLogo(unpackMatrix(D.matrix[other]), `motif ${D.consensus[other]}`) : null,
        h("span", { class: "near-value" }, short(found[1][i], 2)))))
      : h("p", { class: "note" }, why));
  })));
}

function notePanel(node) {
  const area = h("textarea", { id: "note", rows: "3", placeholder: "What you think this node is" });
  area.value = notes.text(node);
  area.addEventListener("input", () => notes.set(node, { note: area.value }));
  return panel("note", "Note", h("label", { for: "note", class: "note" }, "Kept in this browser only; take notes away under About."), area);
}

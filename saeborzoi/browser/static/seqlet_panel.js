// The panel of a node's seqlets: bands of activation, lined up on the motif.

const BAND_NAMES = ["above 0.75 of the maximum", "0.5 – 0.75", "0.25 – 0.5", "below 0.25"];

function seqletPanel(page) {
  if (!page.seqlets) return panel("seqlets", "Seqlets", notYet("No seqlets were made.", "seqlets"));
  if (!page.rows.length)
    return panel(
      "seqlets",
      "Seqlets",
      h(
        "p",
        { class: "note" },
        "The node has no seqlets: none of its top positions lies where a sequence can be read.",
      ),
    );
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
  return panel(
    "seqlets",
    "Seqlets",
    h(
      "p",
      { class: "note" },
      motif
        ? `Lined up where motif ${motif.motif} fits best, on its strand (− marks those turned to the other strand). `
        : "In the order of the genome, not lined up: there is no motif. ",
      "Each band of activation shows its strongest; the site carries up to ",
      String(M.seqlets_per_band),
      " of each.",
      M.assembly ? null : " The genome's assembly is not known, so coordinates have no link.",
    ),
    bands.map((rows, band) => bandBlock(rows, page.seqlets.in_band[band], band, max)),
  );
}

function bandBlock(rows, total, band, max) {
  const title = h(
    "h4",
    {},
    BAND_NAMES[band],
    h(
      "span",
      { class: "count" },
      total
        ? `${plural(total, "seqlet")}${rows.length < total ? `, ${rows.length} carried` : ""}`
        : "none among the strongest positions",
    ),
  );
  if (!rows.length) return h("div", { class: "band" }, title);
  const list = h("div", { class: "seqlets" });
  const show = (n) =>
    list.replaceChildren(...rows.slice(0, n).map((each) => seqletLine(each, max)));
  const first = 8;
  show(first);
  const more =
    rows.length > first &&
    h(
      "button",
      {
        type: "button",
        class: "link",
        onclick: () => {
          show(rows.length);
          more.remove();
        },
      },
      `Show all ${rows.length}`,
    );
  return h("div", { class: "band" }, title, h("div", { class: "scroll" }, list), more);
}

// A seqlet on the strand of the motif; `lead` is where its first base stands when the motif's first
// column stands at 0.
function placeSeqlet(row, motif, score) {
  const hit = score ? score(row.sequence) : null;
  if (!hit || hit.score === -Infinity)
    return { row, sequence: row.sequence, lead: 0, from: 0, to: 0, strand: "+" };
  const width = motif.matrix.length / 4;
  const turned = hit.strand === "-";
  const from = turned ? row.sequence.length - hit.at - width : hit.at;
  return {
    row,
    sequence: turned ? reverseSequence(row.sequence) : row.sequence,
    lead: -from,
    from,
    to: from + width,
    strand: hit.strand,
  };
}

function seqletLine({ row, sequence, lead, from, to, strand }, max) {
  const cells = [...sequence].map((base, i) =>
    h(
      "span",
      { class: `nt nt-${BASES.includes(base) ? base : "N"}${i >= from && i < to ? " in" : ""}` },
      base,
    ),
  );
  const where = `${row.chrom}:${(row.start + 1).toLocaleString("en-US")}-${row.end.toLocaleString("en-US")}`;
  return h(
    "div",
    { class: "seqlet" },
    h("span", { class: "rank", title: "rank among the node's positions" }, String(row.rank + 1)),
    h(
      "span",
      {
        class: "meter",
        title: `activation ${row.activation}, ${percent(row.activation / max)} of the maximum`,
      },
      h("i", { style: { width: `${Math.min(100, (100 * row.activation) / max)}%` } }),
      h("span", {}, short(row.activation)),
    ),
    h("span", { class: "strand", title: "strand" }, strand === "-" ? "−" : "+"),
    h(
      "span",
      {
        class: "sequence",
        role: "img",
        "aria-label": sequence,
        style: { paddingLeft: `${lead}ch` },
      },
      cells,
    ),
    M.assembly
      ? h(
          "a",
          {
            class: "where",
            href: ucscLink(row),
            target: "_blank",
            rel: "noopener noreferrer",
            title: "Opens in the UCSC genome browser",
          },
          where,
        )
      : h("span", { class: "where" }, where),
    row.gene &&
      h(
        "span",
        {
          class: "gene",
          title: `the gene that starts nearest: ${row.gene}, ${whole(row.distance)} bp from the start of its transcription (− is upstream)`,
        },
        `${row.gene} ${distanceWords(row.distance)}`,
      ),
  );
}
const distanceWords = (bp) =>
  (bp < 0 ? "−" : "+") + (Math.abs(bp) < 1000 ? `${Math.abs(bp)} bp` : `${short(Math.abs(bp) / 1000)} kb`);
function ucscLink(row) {
  const margin = 100;
  const query = new URLSearchParams({
    db: M.assembly,
    position: `${row.chrom}:${Math.max(1, row.start + 1 - margin)}-${row.end + margin}`,
  });
  return `https://genome.ucsc.edu/cgi-bin/hgTracks?${query}`;
}

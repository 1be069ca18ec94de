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
      page.rows[0].along
        ? " Bars under the letters: the node’s activation at each position, as a share of its maximum."
        : null,
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
    return { row, sequence: row.sequence, lead: 0, from: 0, to: 0, strand: "+", turned: false };
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
    turned,
  };
}

// The node's activation at each position that the seqlet overlaps: from which letter to which, of
// the line as it stands, and how strong; null where the window has no such position.
function alongSeqlet(row, turned) {
  if (!row.along) return [];
  const width = row.end - row.start;
  const middle = (row.along.length - 1) / 2;
  const left = Math.floor(width / 2) - Math.floor(row.step / 2);
  const parts = row.along.map((value, i) => {
    const start = left + (i - middle) * row.step;
    const [from, to] = [Math.max(0, start), Math.min(width, start + row.step)];
    return turned ? { from: width - to, to: width - from, value } : { from, to, value };
  });
  const inside = parts.filter(({ from, to }) => from < to);
  return turned ? inside.reverse() : inside;
}

function alongStrip(parts, row, lead, max) {
  const width = row.end - row.start;
  const bars = parts
    .filter(({ value }) => value > 0)
    .map(({ from, to, value }) =>
      s("rect", {
        x: from,
        width: to - from,
        y: 1 - Math.min(1, value / max),
        height: Math.min(1, value / max),
      }),
    );
  return s(
    "svg",
    {
      class: "along",
      viewBox: `0 0 ${width} 1`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
      style: { width: `${width}ch`, marginLeft: `${lead}ch` },
    },
    bars,
  );
}

function seqletLine({ row, sequence, lead, from, to, strand, turned }, max) {
  const parts = alongSeqlet(row, turned);
  const values = parts.map(({ value }) => (isMissing(value) ? "no position" : short(value)));
  const along = parts.length ? `activation from left to right: ${values.join(", ")}` : null;
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
        "aria-label": along ? `${sequence}; ${along}` : sequence,
        title: along,
      },
      h("span", { style: { paddingLeft: `${lead}ch` } }, cells),
      parts.length ? alongStrip(parts, row, lead, max) : null,
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

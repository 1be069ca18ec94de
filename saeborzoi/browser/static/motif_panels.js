// The panels of a node's motifs and of the known motifs that they match.

function motifPanel(page) {
  if (!page.motifs)
    return panel("motif", "Motif", notYet("No motif was searched for.", "meme_motifs"));
  const significant = page.motifs.filter((motif) => motif.significant);
  const rest = page.motifs.filter((motif) => !motif.significant);
  const parts = [];
  if (!significant.length) {
    parts.push(
      h(
        "div",
        { class: "state-box nomotif" },
        h("h4", {}, "No significant motif"),
        h(
          "p",
          {},
          rest.length
            ? "Motifs were found, but none below the E-value of the settings and not suspect. They are shown for what they are."
            : "The search ran on this node's seqlets and found none.",
        ),
      ),
    );
  }
  return panel(
    "motif",
    significant.length > 1 ? "Motifs" : "Motif",
    parts,
    significant.map(motifBlock),
    rest.length
      ? h(
          "details",
          { class: "more", open: !significant.length },
          h("summary", {}, plural(rest.length, "motif") + " that did not count"),
          rest.map(motifBlock),
        )
      : null,
  );
}

/* Sites, and how many are left where copies of one element count once. */
function siteCount(motif) {
  const sites = plural(motif.n_sites, "site");
  const alone = isMissing(motif.n_effective) ? motif.n_sites : Math.round(motif.n_effective);
  return alone < motif.n_sites ? `${sites} (${alone} without copies)` : sites;
}

function motifBlock(motif) {
  const matrix = rowsOfFour(motif.matrix);
  const name = `Motif ${motif.motif}`;
  return h(
    "div",
    { class: "motif" },
    h(
      "div",
      { class: "motif-head" },
      h("h4", {}, name),
      h("code", { class: "consensus" }, motif.consensus || ""),
      motif.suspect ? flagMark(motif.suspect, `suspect: ${motif.suspect}`) : null,
      motif.lies_in
        ? h("span", { class: "note" }, `${motif.n_lie_in} of ${plural(motif.n_sites, "site")} in ${motif.lies_in}`)
        : null,
      !motif.significant && !motif.suspect
        ? h("span", { class: "flag" }, "not significant")
        : null,
      h(
        "span",
        { class: "motif-facts" },
        `E ${plainScientific(motif.log10_e)} · ${siteCount(motif)} · ${short(motif.bits)} bits · ${matrix.length} bp`,
      ),
    ),
    h(
      "div",
      { class: "strands" },
      h(
        "figure",
        {},
        h("div", { class: "scroll" }, fullLogo(matrix, `${name}, forward: ${motif.consensus}`)),
        h("figcaption", {}, "forward"),
      ),
      h(
        "figure",
        {},
        h(
          "div",
          { class: "scroll" },
          fullLogo(reverseComplement(matrix), `${name}, reverse complement`),
        ),
        h(
          "figcaption",
          {},
          motif.palindrome ? "reverse complement (palindrome)" : "reverse complement",
        ),
      ),
    ),
  );
}

function matchPanel(page, targets) {
  if (!page.motifs || !page.motifs.some((motif) => motif.significant)) return null;
  if (!page.matches && !M.computed.motif_match)
    return panel(
      "matches",
      "Known motifs",
      notYet("The motif was not compared with known ones.", "tomtom_matches"),
    );
  const rows = page.matches || [];
  const good = rows.filter((row) => row[8]);
  const shown = good.length ? good : rows;
  if (!rows.length)
    return panel(
      "matches",
      "Known motifs",
      h(
        "p",
        { class: "state-box nomotif" },
        h("b", {}, "No match. "),
        "The motif was compared with the databases and nothing in them is like it.",
      ),
    );
  return panel(
    "matches",
    "Known motifs",
    good.length
      ? null
      : h(
          "p",
          { class: "state-box nomotif" },
          h("b", {}, "No significant match. "),
          "The nearest known motifs are shown for comparison.",
        ),
    shown.slice(0, 3).map((row) => matchBlock(page, targets, row)),
    shown.length > 3
      ? h(
          "details",
          { class: "more" },
          h("summary", {}, `${shown.length - 3} more`),
          shown.slice(3).map((row) => matchBlock(page, targets, row)),
        )
      : null,
  );
}

function matchBlock(page, targets, row) {
  const [number, target, p, q, e, offset, overlap, strand, , similarity] = row;
  const motif = page.motifs.find((each) => each.motif === number);
  const packed = targets[target];
  const name = nameOfTarget(target);
  const known = packed ? unpackMatrix(packed) : null;
  const turned = known && strand === "-" ? reverseComplement(known) : known;
  const family = D.targets.family[target];
  return h(
    "div",
    { class: "match" },
    h(
      "div",
      { class: "match-head" },
      h("b", {}, name),
      h(
        "span",
        { class: "family" },
        [
          D.targets.archetype[target],
          D.targets.database[target],
          family,
          D.targets.class[target],
        ]
          .filter(Boolean)
          .join(" · "),
        " · ",
        /^(MA|UN)\d{4}\.\d+$/.test(D.targets.id[target])
          ? h(
              "a",
              { href: `https://jaspar.elixir.no/matrix/${D.targets.id[target]}/`, rel: "noreferrer" },
              D.targets.id[target],
            )
          : D.targets.id[target],
      ),
    ),
    h(
      "div",
      {},
      h(
        "div",
        { class: "scroll" },
        motif
          ? alignmentLogo(
              rowsOfFour(motif.matrix),
              turned,
              offset || 0,
              `Motif ${number} over ${name}, offset ${offset} bp, strand ${strand}`,
            )
          : null,
        known
          ? null
          : h(
              "p",
              { class: "note" },
              "The matrix of this target is not in the site; the motif stands alone.",
            ),
      ),
      facts([
        ["motif", String(number)],
        ["p", probability(p)],
        ["q", probability(q)],
        ["E", probability(e)],
        [
          "offset",
          isMissing(offset) ? MISSING : `${offset} bp`,
          "start of the target minus start of the motif",
        ],
        ["overlap", isMissing(overlap) ? MISSING : `${overlap} bp`],
        ["r", short(similarity, 2), "correlation of the aligned columns"],
        ["strand", strand === "-" ? "− (target turned)" : strand || MISSING],
      ]),
    ),
  );
}

// What the model's outputs do when the node alone is changed, and the variants that act through it.

const LOCI = {
  activation: "where the node is strongest",
  gradient: "where activation × gradient is largest: chosen by the effect, so no p-value",
};

// Nothing where the project has no model.
function effectPanel(page) {
  if (!page.effects) return null;
  return panel(
    "effects",
    "Effect on the model",
    Object.keys(LOCI)
      .filter((loci) => page.effects[loci])
      .map((loci) => effectTable(loci, page.effects[loci])),
  );
}

function effectTable(loci, rows) {
  const spread = (mean, deviation) => [
    h("b", {}, short(mean, 2)),
    h("span", { class: "family" }, isMissing(deviation) ? "one locus" : `± ${short(deviation, 2)}`),
  ];
  const number = (title, ...cell) => h("td", { class: "num", title }, ...cell);
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "overlaps effects" },
      h("caption", {}, `${plural(rows[0][1], "locus", "loci")} ${LOCI[loci]}`),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Track"),
          h("th", { scope: "col", class: "num" }, "Ablated"),
          h("th", { scope: "col", class: "num" }, "Others there"),
          h("th", { scope: "col", class: "num" }, "Doubled"),
          h("th", { scope: "col", class: "num", title: "against other nodes there" }, "z"),
          h("th", { scope: "col", class: "num", title: "published score" }, "Shuffled"),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(
          ([track, , level, ablated, spreadA, doubled, spreadD, control, spreadC, shuffled, z, q, significant]) =>
            h(
              "tr",
              {},
              h(
                "th",
                { scope: "row" },
                track,
                h(
                  "span",
                  { class: "family" },
                  loci === "gradient"
                    ? `level ${short(level, 2)}`
                    : significant
                      ? `beyond controls, q ${probability(q)}`
                      : "within controls",
                ),
              ),
              number("change of the level, mean over loci", spread(ablated, spreadA)),
              number("the strongest other nodes ablated there", spread(control, spreadC)),
              number("change with the node doubled", spread(doubled, spreadD)),
              number("", short(z, 2)),
              number("L2 norm over bins", short(shuffled, 2)),
            ),
        ),
      ),
    ),
  );
}

// Nothing where no variant was looked at, or none acts through the node.
function variantPanel(page) {
  if (!page.variants) return null;
  return panel(
    "variants",
    "Variants that act through it",
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "overlaps" },
        h(
          "caption",
          { class: "visually-hidden" },
          "Variants of whose effect the node carries more than any node does of nearly all neutral changes",
        ),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Variant"),
            h("th", { scope: "col" }, "Track"),
            h("th", { scope: "col", class: "num" }, "Effect"),
            h(
              "th",
              { scope: "col", class: "num", title: "share of the effect that the node carries" },
              "Carries",
            ),
            h("th", { scope: "col", class: "num" }, "q"),
          ),
        ),
        h(
          "tbody",
          {},
          page.variants.map(([set, variant, name, track, effect, share, state, q]) =>
            h(
              "tr",
              {},
              h(
                "th",
                { scope: "row" },
                name || variant,
                h("span", { class: "family" }, [name && variant, set, state].filter(Boolean).join(" · ")),
              ),
              h("td", {}, track),
              h("td", { class: "num" }, short(effect, 2)),
              h("td", { class: "num" }, h("b", {}, percent(share))),
              h("td", { class: "num" }, probability(q)),
            ),
          ),
        ),
      ),
    ),
    M.variants_page
      ? h("p", { class: "note" }, h("a", { href: M.variants_page }, "All variants"))
      : null,
  );
}

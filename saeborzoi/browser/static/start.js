// The list of a project's SAEs with their comparison.

const START_COLUMNS = [
  ["hyperparameters", "SAE"],
  ["layer", "Layer"],
  ["n_nodes", "Nodes", whole],
  ["validation_fvu", "FVU, validation", short],
  ["fvu", "FVU, training", short],
  ["l0", "L0", short],
  ["dead_fraction", "Dead", percent],
  ["n_selected", "Selected", whole],
  ["n_nodes_with_motif", "With a motif", whole],
  ["n_nodes_with_match", "Matched", whole],
  ["n_archetypes", "Families", whole],
];

window.saeborzoi = (_, { project, comparison, saes }) => {
  byId("key").textContent = project;
  if (comparison) {
    byId("comparison-link").href = comparison;
    byId("comparison-link").hidden = false;
  }
  let order = { column: "hyperparameters", down: false };
  const best = {};
  for (const [name, down] of [
    ["validation_fvu", false],
    ["fvu", false],
    ["dead_fraction", false],
    ["n_nodes_with_motif", true],
    ["n_nodes_with_match", true],
    ["n_archetypes", true],
  ]) {
    const values = saes.map((sae) => sae[name]).filter((value) => !isMissing(value));
    if (saes.length > 1 && values.length)
      best[name] = down ? Math.max(...values) : Math.min(...values);
  }
  const draw = () => {
    const rows = [...saes].sort((a, b) => {
      const [x, y] = [a[order.column], b[order.column]];
      if (isMissing(x) || isMissing(y)) return isMissing(x) - isMissing(y);
      return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
    });
    byId("start").replaceChildren(
      saes.length
        ? h(
            "div",
            { class: "scroll" },
            h(
              "table",
              { class: "saes" },
              h(
                "caption",
                {},
                `${plural(saes.length, "sparse autoencoder")}. Bold: the best of its column.`,
              ),
              h(
                "thead",
                {},
                h(
                  "tr",
                  {},
                  START_COLUMNS.map(([name, words, number]) =>
                    h(
                      "th",
                      {
                        scope: "col",
                        class: number ? "num" : null,
                        "aria-sort":
                          order.column === name ? (order.down ? "descending" : "ascending") : null,
                      },
                      h(
                        "button",
                        {
                          type: "button",
                          onclick: () => {
                            order = { column: name, down: order.column === name && !order.down };
                            draw();
                          },
                        },
                        words,
                        h(
                          "span",
                          { class: "arrow", "aria-hidden": "true" },
                          order.column === name ? (order.down ? "▼" : "▲") : "",
                        ),
                      ),
                    ),
                  ),
                ),
              ),
              h(
                "tbody",
                {},
                rows.map((sae) =>
                  h(
                    "tr",
                    {},
                    START_COLUMNS.map(([name, , number]) => {
                      if (name === "hyperparameters")
                        return h(
                          "th",
                          { scope: "row" },
                          sae.href
                            ? h("a", { href: sae.href }, sae[name])
                            : [sae[name], h("span", { class: "family" }, "pages not yet computed")],
                          sae.variants_href
                            ? h(
                                "span",
                                { class: "family" },
                                h("a", { href: sae.variants_href }, "variants"),
                              )
                            : null,
                        );
                      const text = number ? number(sae[name]) : sae[name] || MISSING;
                      return h(
                        "td",
                        { class: number ? "num" : null },
                        name in best && sae[name] === best[name] ? h("b", {}, text) : text,
                      );
                    }),
                  ),
                ),
              ),
            ),
          )
        : h(
            "p",
            { class: "state-box pending" },
            h("b", {}, "No SAE yet. "),
            "Materialize trained_sae for a set of hyperparameters.",
          ),
    );
  };
  draw();
};
startTheme();

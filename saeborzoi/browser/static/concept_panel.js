// The classes of annotation that a node detects best.

// Nothing where the project has no annotation.
function conceptPanel(page) {
  if (!page.concepts) return null;
  const number = (value, digits = 2) => h("td", { class: "num" }, short(value, digits));
  return panel(
    "concepts",
    "Concepts",
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "overlaps concepts" },
        h(
          "caption",
          {},
          `Classes that it detects best, by F1 on the ${page.concepts[0][2] === "train" ? "training" : "validation"} windows`,
        ),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "Class"),
            h("th", { scope: "col", class: "num" }, "F1"),
            h(
              "th",
              { scope: "col", class: "num", title: "of the positions where it fires" },
              "Precision",
            ),
            h(
              "th",
              { scope: "col", class: "num", title: "share of the elements in which it fires" },
              "Recall",
            ),
            h(
              "th",
              { scope: "col", class: "num", title: "average precision over all thresholds" },
              "AP",
            ),
            h(
              "th",
              {
                scope: "col",
                class: "num",
                title: "precision over the share of positions that the class covers",
              },
              "Lift",
            ),
          ),
        ),
        h(
          "tbody",
          {},
          page.concepts.map(([annotation, name, , f1, precision, recall, average, lift]) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, name, h("span", { class: "family" }, annotation)),
              h("td", { class: "num" }, h("b", {}, short(f1, 2))),
              number(precision),
              number(recall),
              number(average),
              number(lift),
            ),
          ),
        ),
      ),
    ),
  );
}

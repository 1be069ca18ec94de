// Which nodes fire along an interval: the server of the pages reads the activations.

function toggleLocus() {
  const box = byId("locus");
  box.hidden = !box.hidden;
  if (box.hidden) return;
  if (!box.firstChild) drawLocusForm(box);
  (box.querySelector("input") || box).focus();
}

function drawLocusForm(box) {
  if (!window.location.protocol.startsWith("http")) {
    box.append(
      h(
        "p",
        { class: "note" },
        "Which nodes fire along an interval is read from the activations, which a page from a file cannot do. Open these pages with ",
        h("code", {}, `saeborzoi browse ${M.hyperparameters} --serve`),
        " or in ",
        h("code", {}, "saeborzoi ui"),
        "; or ask ",
        h("code", {}, `saeborzoi locus ${M.hyperparameters} chr1:1,000,000-1,010,000`),
        ".",
      ),
    );
    return;
  }
  const input = h("input", {
    id: "locus-region",
    type: "text",
    size: "30",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "chr1:1,000,000-1,010,000",
  });
  const shown = h("div", { id: "locus-shown", "aria-live": "polite" });
  box.append(
    h(
      "form",
      {
        class: "locus-form",
        onsubmit: (event) => {
          event.preventDefault();
          askLocus(input.value, shown);
        },
      },
      h(
        "div",
        { class: "field" },
        h("label", { for: "locus-region" }, "Interval inside the data"),
        input,
      ),
      h("button", { type: "submit" }, "Which nodes fire here?"),
    ),
    shown,
  );
}

async function askLocus(region, box) {
  box.replaceChildren(h("p", { class: "loading" }, "Reading activations…"));
  try {
    const query = new URLSearchParams({ key: M.hyperparameters, region });
    const answer = await fetch(`../locus?${query}`);
    const document = await answer.json();
    box.replaceChildren(
      answer.ok ? locusFigure(document) : h("p", { class: "state-box failed" }, document.error),
    );
  } catch (error) {
    box.replaceChildren(
      h("p", { class: "state-box failed" }, `The server did not answer (${error.message}).`),
    );
  }
}

// A row a node, the strongest first; each on its own scale, with its maximum beside it.
function locusFigure({ region, start_bp, end_bp, origin, n_nodes, nodes }) {
  if (!nodes.length) return h("p", { class: "note" }, `No node fires in ${region}.`);
  const width = 1000,
    height = 26;
  const x = (bp) => ((Math.min(Math.max(bp, start_bp), end_bp) - start_bp) / (end_bp - start_bp)) * width;
  return h(
    "figure",
    { class: "plot" },
    h(
      "figcaption",
      { class: "note" },
      `${region}: the strongest ${whole(nodes.length)} of ${plural(n_nodes, "node")} that fire; from ${origin}`,
    ),
    h(
      "table",
      { class: "locus-rows" },
      h(
        "tbody",
        {},
        nodes.map((each) => {
          const most = Math.max(...each.activation);
          return h(
            "tr",
            {},
            h("th", { scope: "row" }, nodeLink(each.node), " ", labelOf(each.node) || nameOf(each.node)),
            h("td", { class: "num", title: "largest activation here" }, short(most)),
            h(
              "td",
              {},
              s(
                "svg",
                {
                  viewBox: `0 0 ${width} ${height}`,
                  preserveAspectRatio: "none",
                  role: "img",
                  "aria-label": `Node ${each.node} fires at ${plural(each.activation.length, "position")}`,
                },
                each.activation.map((value, i) =>
                  s(
                    "rect",
                    {
                      x: x(each.start_bp[i]),
                      y: height * (1 - value / most),
                      width: Math.max(1, x(each.end_bp[i]) - x(each.start_bp[i])),
                      height: (height * value) / most,
                      class: "bar-fill",
                    },
                    s("title", {}, `${whole(each.start_bp[i] + 1)}–${whole(each.end_bp[i])}: ${short(value)}`),
                  ),
                ),
              ),
            ),
          );
        }),
      ),
    ),
  );
}

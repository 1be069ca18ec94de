// What the map's colours mean. Categories use Okabe and Ito's colours for the colour-blind,
// quantities scales that grow evenly in lightness.

const CATEGORIES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d1f"],
  dark: ["#4ba3e3", "#f0803c", "#2fc79a", "#e29cc4", "#f2b84b", "#8fd0f5", "#b493d3", "#cbb26a"],
};
const SCALES = {
  light: ["#d9e2c0", "#8fc6a4", "#3f9fa8", "#2a6f9e", "#2c3f83", "#2a1a55"],
  dark: ["#33415f", "#33669a", "#2d93a6", "#4fbf92", "#a9dc6b", "#f7e94f"],
  diverging: {
    light: ["#2166ac", "#92c5de", "#d4d8dc", "#f4a15a", "#b35806"],
    dark: ["#5aa9f0", "#386f9e", "#4a5560", "#b8742e", "#ffab52"],
  },
};
const isDark = () => {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
};

function mix(colours, t) {
  const at = Math.min(Math.max(t, 0), 1) * (colours.length - 1);
  const low = Math.min(Math.floor(at), colours.length - 2);
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [parse(colours[low]), parse(colours[low + 1])];
  return `rgb(${a.map((value, i) => Math.round(value + (b[i] - value) * (at - low))).join(",")})`;
}
// drawing is quicker where many nodes share a colour: a scale has this many steps
const STEPS = 24;
const stepped = (colours) => Array.from({ length: STEPS + 1 }, (_, i) => mix(colours, i / STEPS));

function scaleBy(value, low, high, colours, legend) {
  const steps = stepped(colours);
  return {
    of: (node) => {
      const v = value(node);
      return isMissing(v)
        ? null
        : steps[Math.round(Math.min(Math.max((v - low) / (high - low || 1), 0), 1) * STEPS)];
    },
    legend: { ...legend, low, high, colours },
  };
}

function countBy(value) {
  const counts = new Map();
  for (let node = 0; node < M.n_nodes; node += 1) {
    const v = value(node);
    if (!isMissing(v) && !isMissing(D.x[node])) counts.set(v, (counts.get(v) || 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

// of the commonest values as many as there are colours; with a tip, of all, the colours again and
// again, where labels on the map tell them apart
function categories(value, filter, name, other, tip = null) {
  const palette = CATEGORIES[isDark() ? "dark" : "light"];
  const counts = countBy(value);
  const shown = tip ? counts : counts.slice(0, palette.length);
  const colour = new Map(shown.map(([v], i) => [v, palette[i % palette.length]]));
  const rest = counts.slice(shown.length).reduce((sum, [, n]) => sum + n, 0);
  return {
    of: (node) => colour.get(value(node)) || null,
    legend: {
      kind: "categories",
      filter,
      rest,
      other,
      entries: [...colour].map(([v, c], i) => ({
        value: String(v),
        text: name(v),
        tip: tip && tip(v),
        colour: c,
        count: counts[i][1],
      })),
    },
  };
}

function range(value, share = 0.98) {
  const values = [];
  for (let node = 0; node < M.n_nodes; node += 1)
    if (!isMissing(value(node)) && !isMissing(D.x[node])) values.push(value(node));
  values.sort((a, b) => a - b);
  return values.length
    ? [
        values[Math.floor((1 - share) * (values.length - 1))],
        values[Math.ceil(share * (values.length - 1))],
      ]
    : [0, 1];
}

const COLOURINGS = lookup({
  family: {
    word: "family of motifs",
    make: () => categories(familyOf, "family", (v) => v, "other families"),
  },
  q: {
    word: "significance of the best match",
    make: (theme) => {
      const value = (node) => (isMissing(D.log10_q[node]) ? null : -D.log10_q[node]);
      return scaleBy(value, 0, Math.max(2, range(value)[1]), SCALES[theme], {
        kind: "scale",
        title: "−log10 q",
        text: (v) => short(v, 2),
        missing: "no match",
      });
    },
  },
  frequency: {
    word: "activation frequency",
    make: (theme) => {
      const value = (node) => (D.frequency[node] ? Math.log10(D.frequency[node]) : null);
      const [low, high] = range(value);
      return scaleBy(value, low, high, SCALES[theme], {
        kind: "scale",
        title: "share of positions where the node fires",
        text: (v) => percent(10 ** v),
        missing: "never fires",
      });
    },
  },
  annotation: {
    word: "annotation enrichment",
    make: (theme) => {
      const annotation =
        D.annotations.find((a) => classKey(a) === view["colour-class"]) || D.annotations[0];
      const value = (node) =>
        annotation && !isMissing(annotation.log2_odds_tenths[node])
          ? annotation.log2_odds_tenths[node] / 10
          : null;
      return scaleBy(value, -4, 4, SCALES.diverging[theme], {
        kind: "scale",
        title: `odds ratio of overlap with ${annotation ? annotation.class : "a class"}, against the shuffled control`,
        text: (v) => (v < 0 ? `1/${2 ** -v}` : String(2 ** v)),
        middle: true,
        missing: "not yet computed",
      });
    },
  },
  cluster: {
    word: "cluster",
    make: () => {
      const words = (number, say) => (clusterOf(number) ? say(clusterOf(number)) : String(number));
      return categories(
        (node) => D.cluster[node],
        "cluster",
        (v) => words(v, clusterWords),
        "",
        (v) => words(v, clusterTip),
      );
    },
  },
});
const colouring = () =>
  (COLOURINGS[view.colour] || COLOURINGS.family).make(isDark() ? "dark" : "light");

function drawLegend(box, { legend }) {
  if (legend.kind === "categories") {
    box.replaceChildren(
      ...legend.entries.map((entry) =>
        h(
          "button",
          {
            type: "button",
            class: "swatch",
            "aria-pressed": String(view[legend.filter] === entry.value),
            title: entry.tip || `Show only ${entry.text}`,
            onclick: () =>
              changeView({
                [legend.filter]: view[legend.filter] === entry.value ? "" : entry.value,
              }),
          },
          h("i", { style: { background: entry.colour } }),
          h("span", { class: "swatch-text" }, entry.text),
          entry.tip ? null : h("span", { class: "swatch-count" }, whole(entry.count)),
        ),
      ),
      h(
        "span",
        { class: "swatch plain" },
        h("i", { class: "none" }),
        h("span", { class: "swatch-text" }, legend.rest ? `${legend.other} and none` : "none"),
        legend.rest
          ? h("span", { class: "swatch-count" }, `${whole(legend.rest)} in others`)
          : null,
      ),
    );
    return;
  }
  const marks = legend.middle ? [legend.low, 0, legend.high] : [legend.low, legend.high];
  box.replaceChildren(
    h(
      "div",
      { class: "scale" },
      h("span", { class: "scale-title" }, legend.title),
      h("span", {
        class: "scale-bar",
        style: { background: `linear-gradient(to right, ${legend.colours.join(",")})` },
      }),
      h(
        "span",
        { class: "scale-marks" },
        marks.map((mark) => h("span", {}, legend.text(mark))),
      ),
    ),
    h(
      "span",
      { class: "swatch plain" },
      h("i", { class: "none" }),
      h("span", { class: "swatch-text" }, legend.missing),
    ),
  );
}

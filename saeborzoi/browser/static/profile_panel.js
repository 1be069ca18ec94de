// Mean activation of the node around its strongest positions, along the genome.

// Nothing where it was not computed.
function profilePanel(page) {
  if (!page.profile) return null;
  const width = 420,
    height = 110,
    left = 46,
    top = 8,
    bottom = 34;
  const values = page.profile.flatMap(([, , , mean]) => mean).filter((value) => !isMissing(value));
  const most = Math.max(...values, 1e-9);
  const reach = Math.max(...page.profile.map(([, step, , mean]) => (step * (mean.length - 1)) / 2));
  const x = (bp) => left + ((bp + reach) / (2 * reach)) * width;
  const y = (value) => top + height * (1 - value / most);
  const lines = page.profile.map(([strand, step, n, mean]) => {
    const middle = (mean.length - 1) / 2;
    // a value that no window covers breaks the line
    let pen = "M";
    const path = mean.map((value, i) => {
      if (isMissing(value)) {
        pen = "M";
        return "";
      }
      const point = `${pen}${x((i - middle) * step).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      return point;
    });
    return s(
      "path",
      { d: path.join(""), class: strand === "-" ? "profile reverse" : "profile" },
      s("title", {}, `${plural(n, "locus", "loci")} read on strand ${strand === "-" ? "−" : "+"}`),
    );
  });
  const widths = page.rows && page.rows.length ? page.rows[0].end - page.rows[0].start : 0;
  return panel(
    "profile",
    "Around its strongest positions",
    h(
      "figure",
      { class: "plot" },
      s(
        "svg",
        {
          viewBox: `0 0 ${left + width + 6} ${top + height + bottom}`,
          role: "img",
          "aria-label": `Mean activation within ${whole(reach)} bp of the node’s strongest positions, at most ${short(most)}`,
        },
        widths
          ? s("rect", {
              x: x(-widths / 2),
              y: top,
              width: x(widths / 2) - x(-widths / 2),
              height,
              class: "seqlet-extent",
            })
          : null,
        lines,
        s("line", { x1: left, x2: left + width, y1: top + height, y2: top + height, class: "axis" }),
        s("text", { x: left - 6, y: top + 8, class: "tick", "text-anchor": "end" }, short(most)),
        s("text", { x: left - 6, y: top + height, class: "tick", "text-anchor": "end" }, "0"),
        [-1, -0.5, 0, 0.5, 1].map((part) =>
          s(
            "text",
            {
              x: x(part * reach),
              y: top + height + 15,
              class: "tick",
              "text-anchor": part === 1 ? "end" : part === -1 ? "start" : "middle",
            },
            whole(Math.round(part * reach)),
          ),
        ),
        s(
          "text",
          { x: left + width / 2, y: top + height + 30, class: "tick", "text-anchor": "middle" },
          "bp from the strongest position, as the model reads",
        ),
      ),
    ),
    h(
      "p",
      { class: "note" },
      `Mean of ${page.profile
        .map(([strand, , n]) => `${plural(n, "locus", "loci")} read on ${strand === "-" ? "− (dashed)" : "+"}`)
        .join(" and ")}`,
      widths ? "; shaded: the seqlet." : ".",
    ),
  );
}

// Sequence logos as SVG: heights in bits, the most probable letter on top.

const BASES = "ACGT";
// letters in a unit box, absolute M L C Z only, so that they can be moved and scaled by number
const GLYPHS = {
  A: "M0,1 L.38,0 L.62,0 L1,1 L.79,1 L.71,.77 L.29,.77 L.21,1 Z M.345,.6 L.655,.6 L.5,.15 Z",
  C: "M1,.31 C.96,.11 .77,0 .53,0 C.21,0 0,.2 0,.5 C0,.8 .21,1 .53,1 C.77,1 .96,.89 1,.69 L.79,.69 C.76,.79 .67,.84 .53,.84 C.33,.84 .21,.71 .21,.5 C.21,.29 .33,.16 .53,.16 C.67,.16 .76,.21 .79,.31 Z",
  G: "M1,.31 C.96,.11 .77,0 .53,0 C.21,0 0,.2 0,.5 C0,.8 .21,1 .53,1 C.75,1 .92,.91 1,.8 L1,.46 L.54,.46 L.54,.62 L.8,.62 L.8,.73 C.75,.8 .66,.84 .53,.84 C.33,.84 .21,.71 .21,.5 C.21,.29 .33,.16 .53,.16 C.67,.16 .76,.21 .79,.31 Z",
  T: "M0,0 L1,0 L1,.18 L.605,.18 L.605,1 L.395,1 L.395,.18 L0,.18 Z",
};
const GLYPH_STEPS = Object.fromEntries(
  Object.entries(GLYPHS).map(([base, path]) => [
    base,
    path.match(/[MLCZ]|-?[\d.]+/g).map((part) => (/[MLCZ]/.test(part) ? part : Number(part))),
  ]),
);
const PRINT_COLOURS = { A: "#00704f", C: "#0060a8", G: "#a86400", T: "#b3360b" };

function bits(row) {
  let sum = 2;
  for (const p of row) if (p > 0) sum += p * Math.log2(p);
  return Math.max(0, sum);
}

function glyphPath(base, x, y, width, height) {
  let horizontal = true;
  let path = "";
  for (const step of GLYPH_STEPS[base]) {
    if (typeof step === "string") path += step;
    else {
      path += (horizontal ? (x + step * width).toFixed(1) : (y + step * height).toFixed(1)) + " ";
      horizontal = !horizontal;
    }
  }
  return path;
}

// One path a base: a logo in a table row must be light. `at` is the first column's place.
function logoPaths(matrix, { unit, height, at = 0, top = 0 }) {
  const paths = { A: "", C: "", G: "", T: "" };
  matrix.forEach((row, column) => {
    const scale = (bits(row) / 2) * height;
    let y = top + height;
    const order = [0, 1, 2, 3].sort((a, b) => row[a] - row[b]);
    for (const base of order) {
      const size = row[base] * scale;
      if (size < 0.4) continue;
      y -= size;
      paths[BASES[base]] += glyphPath(
        BASES[base],
        (at + column) * unit + unit * 0.04,
        y,
        unit * 0.92,
        size,
      );
    }
  });
  return paths;
}
function drawPaths(paths) {
  return Object.entries(paths)
    .filter(([, d]) => d)
    .map(([base, d]) =>
      s("path", { d, class: `base-${base}`, fill: PRINT_COLOURS[base], "fill-rule": "evenodd" }),
    );
}

function smallLogo(matrix, label) {
  const unit = 9,
    height = 30;
  return s(
    "svg",
    {
      class: "logo small",
      viewBox: `0 0 ${matrix.length * unit} ${height}`,
      width: matrix.length * unit,
      height,
      role: "img",
      "aria-label": label,
    },
    drawPaths(logoPaths(matrix, { unit, height })),
  );
}

// A full logo with its axis in bits and numbered columns.
function fullLogo(matrix, label) {
  const unit = 24,
    height = 96,
    left = 34,
    top = 8,
    bottom = 18;
  const width = left + matrix.length * unit + 4;
  const axis = [0, 1, 2].map((tick) => {
    const y = top + height * (1 - tick / 2);
    return [
      s("line", { x1: left - 4, x2: left, y1: y, y2: y, class: "axis" }),
      s("text", { x: left - 7, y: y + 4, class: "tick", "text-anchor": "end" }, String(tick)),
    ];
  });
  const numbers = matrix.map(
    (_, i) =>
      ((i + 1) % 5 === 0 || i === 0) &&
      s(
        "text",
        {
          x: left + (i + 0.5) * unit,
          y: top + height + 14,
          class: "tick",
          "text-anchor": "middle",
        },
        String(i + 1),
      ),
  );
  return s(
    "svg",
    {
      class: "logo full",
      viewBox: `0 0 ${width} ${top + height + bottom}`,
      width,
      height: top + height + bottom,
      role: "img",
      "aria-label": label,
      xmlns: SVG,
    },
    s("line", { x1: left, x2: left, y1: top, y2: top + height, class: "axis" }),
    axis,
    s(
      "text",
      {
        class: "tick",
        transform: `translate(10 ${top + height / 2}) rotate(-90)`,
        "text-anchor": "middle",
      },
      "bits",
    ),
    s(
      "g",
      { transform: `translate(${left} 0)` },
      drawPaths(logoPaths(matrix, { unit, height, top })),
    ),
    numbers,
  );
}

// Query over target, in the frame of the alignment: the target starts `offset` after the query.
function alignmentLogo(query, target, offset, label) {
  const unit = 19,
    height = 48,
    gap = 8;
  const first = Math.min(0, target ? offset : 0);
  const last = Math.max(query.length, target ? offset + target.length : 0);
  const width = (last - first) * unit;
  const shared = target
    ? [Math.max(0, offset), Math.min(query.length, offset + target.length)]
    : [0, 0];
  const y = height + gap;
  return s(
    "svg",
    {
      class: "logo alignment",
      viewBox: `0 0 ${width} ${y + height + 2}`,
      width,
      height: y + height + 2,
      role: "img",
      "aria-label": label,
      xmlns: SVG,
    },
    s("rect", {
      x: (shared[0] - first) * unit,
      y: 0,
      width: Math.max(0, shared[1] - shared[0]) * unit,
      height: y + height + 2,
      class: "shared",
    }),
    s("line", {
      x1: 0,
      x2: width,
      y1: height + gap / 2,
      y2: height + gap / 2,
      class: "axis faint",
    }),
    drawPaths(logoPaths(query, { unit, height, at: -first })),
    target && drawPaths(logoPaths(target, { unit, height, at: offset - first, top: y })),
  );
}

// Where the matrix fits a sequence best, on either strand: place of its first column on the forward
// strand, and the strand. Log-odds against equal base frequencies.
function scorer(matrix) {
  const logs = [matrix, reverseComplement(matrix)].map((strand) =>
    strand.map((row) => row.map((p) => Math.log2((p + 0.01) / 1.04 / 0.25))),
  );
  return (sequence) => {
    const codes = [...sequence].map((letter) => BASES.indexOf(letter));
    let best = { score: -Infinity, at: 0, strand: "+" };
    logs.forEach((strand, which) => {
      for (let at = 0; at + strand.length <= codes.length; at += 1) {
        let score = 0;
        for (let i = 0; i < strand.length; i += 1)
          score += codes[at + i] < 0 ? -2 : strand[i][codes[at + i]];
        if (score > best.score) best = { score, at, strand: which ? "-" : "+" };
      }
    });
    return best;
  };
}
const COMPLEMENT = { A: "T", C: "G", G: "C", T: "A" };
const reverseSequence = (sequence) =>
  [...sequence]
    .reverse()
    .map((base) => COMPLEMENT[base] || base)
    .join("");

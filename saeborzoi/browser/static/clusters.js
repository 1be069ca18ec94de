// What the map says of its clusters: words for the legend, the filter and the nodes' pages, and
// labels at their middle.

const clusterOf = (number) => D.clusters.find((c) => c.cluster === number);
// A name is of some of a cluster's nodes only: how many is said.
const clusterWords = (c) =>
  c.name
    ? `${c.cluster}: ${c.name}, ${whole(c.n_named_nodes)} of ${whole(c.n_nodes)}`
    : `${c.cluster} (${whole(c.n_nodes)})`;

// Families that name nodes of a cluster, the commonest first.
function familiesOfCluster(number) {
  const counts = new Map();
  for (let node = 0; node < M.n_nodes; node += 1) {
    const family = D.cluster[node] === number && familyOf(node);
    if (family) counts.set(family, (counts.get(family) || 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

// How sure its name is, or why it has none, and what is in it.
function clusterTip(c) {
  const families = familiesOfCluster(c.cluster)
    .slice(0, 8)
    .map(([family, n]) => `${family} ${whole(n)}`);
  const chance = c.is_enriched ? "" : ", no more than by chance";
  return [
    c.name
      ? `${c.name}: ${whole(c.n_named_nodes)} of its ${plural(c.n_nodes, "node")}, ${whole(c.n_on_map)} of the map’s ${whole(map.placed.length)} (${c.kind}; q = ${probability(c.q_value)}${chance})`
      : `${plural(c.n_nodes, "node")}; ${c.unnamed_because || "not yet computed"}`,
    families.length && `named nodes: ${families.join(", ")}`,
  ]
    .filter(Boolean)
    .join(". ");
}

const LABEL_HEIGHT = 14;
const MAX_LABEL = 24;
const shortened = (name) => (name.length > MAX_LABEL ? `${name.slice(0, MAX_LABEL - 1)}…` : name);
const labelOfCluster = (c) =>
  c.name ? `${shortened(c.name)} ${c.n_named_nodes}/${c.n_nodes}` : String(c.cluster);

function middle(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

// Where the labels stand, as [text, x, y] of their middle: the larger cluster's where two would
// meet, and none beside the canvas or of a cluster that the filters hide.
function placedLabels(toScreen, visible, width, height, measure) {
  const nodes = new Map();
  for (const node of map.placed)
    if (visible.has(node))
      nodes.set(D.cluster[node], [...(nodes.get(D.cluster[node]) || []), toScreen(node)]);
  const boxes = [];
  const labels = [];
  for (const c of [...D.clusters].sort((a, b) => b.n_nodes - a.n_nodes)) {
    const points = nodes.get(c.cluster);
    if (!points) continue;
    const text = labelOfCluster(c);
    const half = measure(text) / 2 + 3;
    const middleX = middle(points.map(([x]) => x));
    const middleY = middle(points.map(([, y]) => y));
    if (middleX < 0 || middleX > width || middleY < 0 || middleY > height) continue;
    const x = Math.min(Math.max(middleX, half), Math.max(half, width - half));
    for (const dy of [0, -LABEL_HEIGHT, LABEL_HEIGHT, -2 * LABEL_HEIGHT, 2 * LABEL_HEIGHT]) {
      const y = middleY + dy;
      const box = [x - half, y - LABEL_HEIGHT / 2, x + half, y + LABEL_HEIGHT / 2];
      if (box[1] < 0 || box[3] > height) continue;
      if (boxes.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3]))
        continue;
      boxes.push(box);
      labels.push([text, x, y]);
      break;
    }
  }
  return labels;
}

function paintClusters({ context, visible, width, height }) {
  context.font = `600 12px ${cssColour("--sans")}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 4;
  context.strokeStyle = cssColour("--surface");
  context.fillStyle = cssColour("--ink");
  const measure = (text) => context.measureText(text).width;
  const place = (node) => map.toScreen(node);
  for (const [text, x, y] of placedLabels(place, visible, width, height, measure)) {
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }
}

// Of the cluster that is shown alone how sure its name is, or why it has none; else which nodes
// stand nowhere.
function mapNote(n_placed) {
  const cluster = view.cluster !== "" && clusterOf(Number(view.cluster));
  if (cluster) return `${clusterTip(cluster)}.`;
  const missing = M.n_nodes - n_placed;
  return n_placed && missing
    ? `${whole(missing)} of ${plural(M.n_nodes, "node")} have no place here: dead, not selected or not yet computed. They stand in the table.`
    : "";
}

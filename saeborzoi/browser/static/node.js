// The page of one node: what it is, at a glance; the panels stand in panels.js.

let openedNode = null; // the node whose page is shown or being read
let lastOrder = []; // the overview's order, for next and previous

function openNode(node) {
  view.node = String(node);
  writeAddress({ add: true });
  showView();
}
function followNode(event, node) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  openNode(node);
}
function closeNode() {
  view.node = "";
  writeAddress({ add: true });
  showView();
}

// The node before or after in the order of the table; among all nodes where the table lacks it.
function neighbourInOrder(node, step) {
  const place = lastOrder.indexOf(node);
  if (place < 0) {
    const next = node + step;
    return next >= 0 && next < M.n_nodes ? next : null;
  }
  const next = lastOrder[place + step];
  return next === undefined ? null : next;
}
function step(by) {
  const next = openedNode === null ? null : neighbourInOrder(openedNode, by);
  if (next === null) return;
  view.node = String(next);
  writeAddress({ add: true });
  showView();
}

function nodeLink(node, ...children) {
  return h(
    "a",
    { href: address({ node: String(node) }), onclick: (event) => followNode(event, node) },
    children.length ? children : `node ${node}`,
  );
}

async function showNode(text) {
  const box = byId("node");
  if (!/^\d+$/.test(text) || Number(text) >= M.n_nodes) {
    openedNode = null;
    box.replaceChildren(
      h(
        "div",
        { class: "state-box failed" },
        h("h2", {}, "No such node"),
        h("p", {}, `This SAE has nodes 0 to ${M.n_nodes - 1}; the address asks for “${text}”.`),
        h("button", { type: "button", onclick: closeNode }, "To the overview"),
      ),
    );
    return;
  }
  const node = Number(text);
  openedNode = node;
  // a page that is there at once must not flash a message
  const patience = setTimeout(() => {
    if (openedNode === node)
      box.replaceChildren(h("p", { class: "loading" }, `Reading node ${node}…`));
  }, 150);
  try {
    const [page, targets] = await Promise.all([loadNode(node), load("targets")]);
    clearTimeout(patience);
    if (openedNode !== node) return;
    drawNode(box, node, page, targets);
  } catch (error) {
    clearTimeout(patience);
    if (openedNode !== node) return;
    if (!(error instanceof LoadError)) throw error;
    box.replaceChildren(
      nodeHead(node),
      h(
        "div",
        { class: "state-box failed", role: "alert" },
        h("h3", {}, "Failed to load"),
        h(
          "p",
          {},
          `What is known of node ${node} could not be shown: ${error.message}. This says nothing about the node.`,
        ),
        h("button", { type: "button", onclick: () => showNode(text) }, "Try again"),
      ),
    );
  }
}

function nodeHead(node) {
  const previous = neighbourInOrder(node, -1);
  const next = neighbourInOrder(node, 1);
  const fits = targetOf(node) < 0 ? [] : fitsOf(node);
  const menu = h("details", { class: "menu" });
  exportMenu(
    menu,
    () => [node],
    () => `node${node}`,
    () => `Node ${node}`,
  );
  const place = lastOrder.indexOf(node);
  return h(
    "header",
    { class: "node-head" },
    h(
      "div",
      { class: "node-title" },
      h("button", { type: "button", class: "quiet back", onclick: closeNode }, "← Overview"),
      h("h2", { tabindex: "-1", id: "node-title" }, `Node ${node}`),
      starButton(node),
      badge(node),
      flagsOf(node).map((flag) => flagMark(flag)),
      labelOf(node) &&
        h(
          "p",
          { class: "node-name node-label" },
          h("b", {}, labelOf(node)),
          h("span", { class: "note" }, ` label by ${D.labels[node][1]}, ${D.labels[node][2]}`),
        ),
      fits.length > 0 &&
        h(
          "p",
          {
            class: "node-name",
            title: `The family of motifs, and the factors of it that fit as well as the best one, ${fits[0]}: which of them binds, the motif cannot tell.`,
          },
          h("b", {}, familyOf(node)),
          fits.length === 1 && fits[0] === familyOf(node)
            ? ""
            : `: ${fits.slice(0, 12).join(", ")}${fits.length > 12 ? ` and ${fits.length - 12} more` : ""}`,
        ),
    ),
    h(
      "div",
      { class: "node-actions" },
      place >= 0 &&
        h("span", { class: "count" }, `${whole(place + 1)} of ${whole(lastOrder.length)} listed`),
      h(
        "button",
        {
          type: "button",
          disabled: previous === null,
          onclick: () => step(-1),
          "aria-keyshortcuts": "ArrowLeft",
          title: "Previous node of the list (←)",
        },
        "‹ Previous",
      ),
      h(
        "button",
        {
          type: "button",
          disabled: next === null,
          onclick: () => step(1),
          "aria-keyshortcuts": "ArrowRight",
          title: "Next node of the list (→)",
        },
        "Next ›",
      ),
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(selection.has(node)),
          id: "pick-node",
          onclick: () => {
            toggleSelected(node);
            byId("pick-node").setAttribute("aria-pressed", String(selection.has(node)));
            byId("pick-node").textContent = selection.has(node) ? "Selected" : "Select";
          },
        },
        selection.has(node) ? "Selected" : "Select",
      ),
      menu,
    ),
  );
}

const panel = (id, title, ...content) =>
  h(
    "section",
    { class: "panel", id: `panel-${id}`, "aria-labelledby": `h-${id}` },
    h("h3", { id: `h-${id}` }, title),
    content,
  );
const notYet = (what, asset) =>
  h(
    "p",
    { class: "state-box pending" },
    h("b", {}, "Not yet computed. "),
    `${what} Materialize the asset `,
    h("code", {}, asset),
    " for this node.",
  );

function drawNode(box, node, page, targets) {
  const state = stateOf(node);
  const parts = [nodeHead(node)];
  if (state === "d") {
    parts.push(
      h(
        "div",
        { class: "state-box dead" },
        h("h3", {}, "Dead node"),
        h(
          "p",
          {},
          `It fires at none of the ${whole(page.activation && page.activation.n_positions)} positions that were scanned, so it has no seqlets and no motif.`,
        ),
      ),
    );
  }
  if (state === "n") {
    parts.push(
      h(
        "div",
        { class: "state-box unselected" },
        h("h3", {}, "Not selected"),
        h(
          "p",
          {},
          `The node fires, but it did not pass the selection: ${(page.selection && page.selection.reason) || "no reason was recorded"}. No motif was searched for.`,
        ),
      ),
    );
  }
  if (state === "p") {
    parts.push(
      h(
        "div",
        { class: "state-box pending" },
        h("h3", {}, "Not yet computed"),
        h(
          "p",
          {},
          "Some of what describes this node has not been materialized yet; each panel says what is missing.",
        ),
      ),
    );
  }
  const isSelected = state !== "d" && state !== "n";
  // a node without seqlets and motif leaves nothing for the wide column
  const isQuiet = !isSelected && !(page.rows && page.rows.length);
  const figures = [activationPanel(page), profilePanel(page), evidencePanel(node, page)];
  const left = isQuiet ? figures : [seqletPanel(page)];
  const right = isQuiet ? [] : figures;
  if (isSelected) {
    left.unshift(motifPanel(page), matchPanel(page, targets));
    right.push(effectPanel(page), variantPanel(page), overlapPanel(page), conceptPanel(page));
  }
  right.push(nearPanel(node, page), notePanel(node));
  parts.push(
    h(
      "div",
      { class: isQuiet ? "node-columns even" : "node-columns" },
      h("div", { class: "column" }, left),
      h("div", { class: "column" }, right),
    ),
  );
  box.replaceChildren(...parts);
  document.title = [`Node ${node}`, labelOf(node), nameOf(node), M.hyperparameters]
    .filter(Boolean)
    .join(" · ");
}

// Puts the parts together: reads the overview, follows the address, keeps the parts in step.

function option(value, text) {
  return h("option", { value }, text);
}
const FILTERS = {
  "f-state": "state",
  "f-family": "family",
  "f-class": "class",
  "f-cluster": "cluster",
  "f-flag": "flag",
  "f-show": "show",
  colour: "colour",
  "colour-class": "colour-class",
};

function fillControls() {
  const states = new Map();
  for (const letter of D.states) states.set(letter, (states.get(letter) || 0) + 1);
  byId("f-state").append(
    option("", "all"),
    option("motif", `with a motif (${whole((states.get("m") || 0) + (states.get("u") || 0))})`),
    ...Object.keys(STATES)
      .filter((letter) => states.has(letter))
      .map((letter) => option(letter, `${STATES[letter].word} (${whole(states.get(letter))})`)),
  );
  const families = new Map();
  for (let node = 0; node < M.n_nodes; node += 1) {
    const family = familyOf(node);
    if (family) families.set(family, (families.get(family) || 0) + 1);
  }
  byId("f-family").append(
    option("", "all"),
    ...[...families]
      .sort((a, b) => b[1] - a[1])
      .map(([name, n]) => option(name, `${name} (${whole(n)})`)),
  );
  byId("f-class").append(
    option("", "any"),
    ...D.annotations.map((a) => option(classKey(a), `${a.class} (${whole(a.enriched.length)})`)),
  );
  byId("f-cluster").append(
    option("", "all"),
    ...D.clusters.map((c) =>
      option(String(c.cluster), clusterWords(c)),
    ),
  );
  byId("f-flag").append(option("", "any"), ...D.flags.map((flag) => option(flag, flag)));
  byId("f-show").append(
    option("", "all nodes"),
    option("selected", "selected only"),
    option("favourites", "favourites only"),
    option("notes", "with a note"),
  );
  byId("colour").append(
    ...Object.entries(COLOURINGS).map(([name, { word }]) => option(name, word)),
  );
  byId("colour-class").append(...D.annotations.map((a) => option(classKey(a), a.class)));
  if (!D.annotations.length) byId("colour").querySelector("[value=annotation]").disabled = true;
  const words = new Set([
    ...D.targets.name.filter(Boolean),
    ...families.keys(),
    ...D.annotations.map((a) => a.class),
  ]);
  byId("suggestions").append(
    ...[...words].sort().map((word) => option(/\s/.test(word) ? `"${word}"` : word, "")),
  );
  for (const [id, name] of Object.entries(FILTERS))
    byId(id).addEventListener("change", (event) => changeView({ [name]: event.target.value }));
  let typing = null;
  byId("q").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => changeView({ q: event.target.value }), 20);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", resetFilters);
}

function showControls() {
  if (byId("q").value !== view.q) byId("q").value = view.q;
  for (const [id, name] of Object.entries(FILTERS)) {
    const select = byId(id);
    select.value =
      view[name] ||
      (name === "colour-class" && D.annotations.length ? classKey(D.annotations[0]) : view[name]);
    select.classList.toggle("set", view[name] !== DEFAULTS[name]);
  }
  byId("colour-class-field").hidden = view.colour !== "annotation";
}

function showHead() {
  byId("key").textContent = M.hyperparameters;
  document.title = `${M.hyperparameters} · Feature browser`;
  if (M.start_page) {
    byId("start-link").href = M.start_page;
    byId("start-link").hidden = false;
  }
  if (M.variants_page) {
    byId("variants-link").href = M.variants_page;
    byId("variants-link").hidden = false;
  }
  const count = (letters) => [...D.states].filter((letter) => letters.includes(letter)).length;
  const figures = [
    ["nodes", whole(M.n_nodes)],
    ["dead", whole(count("d"))],
    ["with a motif", whole(count("mu"))],
    ["matched", whole(count("m"))],
  ];
  if (D.sae)
    figures.push(
      ["FVU", short(isMissing(D.sae.validation_fvu) ? D.sae.fvu : D.sae.validation_fvu)],
      ["L0", short(D.sae.l0)],
    );
  byId("figures").append(
    ...figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

// A change of the search, filters, order or colours: one way in, so that all parts stay in step.
function changeView(changes) {
  const began = performance.now();
  Object.assign(view, changes);
  writeAddress();
  showControls();
  if (
    "colour" in changes ||
    "colour-class" in changes ||
    "family" in changes ||
    "cluster" in changes
  )
    map.recolour();
  if (
    "sort" in changes ||
    Object.keys(changes).some((name) => !["colour", "colour-class", "map"].includes(name))
  ) {
    if (!("sort" in changes)) byId("table-box").scrollTop = 0;
    refresh();
  }
  document.body.dataset.changed = (performance.now() - began).toFixed(1);
}
function resetFilters() {
  changeView({ q: "", state: "", family: "", class: "", cluster: "", flag: "", show: "" });
}

function refresh() {
  lastOrder = visibleNodes(view);
  table.show(lastOrder);
  map.show(lastOrder);
  byId("result-count").textContent =
    lastOrder.length === M.n_nodes
      ? plural(M.n_nodes, "node")
      : `${whole(lastOrder.length)} of ${plural(M.n_nodes, "node")}`;
  showSelection();
}

function setSelection(nodes) {
  selection.clear();
  for (const node of nodes) selection.add(node);
  selectionChanged();
  announce(`${plural(selection.size, "node")} selected`);
}
function toggleSelected(node) {
  if (!selection.delete(node)) selection.add(node);
  selectionChanged();
}
function selectionChanged() {
  writeAddress();
  if (view.show === "selected") {
    refresh();
    return;
  }
  table.render(true);
  map.draw();
  showSelection();
}
function showSelection() {
  table.showPicked();
  const bar = byId("selection-bar");
  bar.hidden = !selection.size;
  bar.replaceChildren(
    h("span", {}, `${whole(selection.size)} selected`),
    h(
      "button",
      {
        type: "button",
        class: "link",
        onclick: () => changeView({ show: view.show === "selected" ? "" : "selected" }),
      },
      view.show === "selected" ? "Show all" : "Show only these",
    ),
    h("button", { type: "button", class: "link", onclick: () => setSelection([]) }, "Clear"),
  );
}
const nodesToTake = () => (selection.size ? [...selection].sort((a, b) => a - b) : lastOrder);

let scrolled = 0; // where the overview was when a node was opened
function showView() {
  const isNode = view.node !== "";
  byId("loading").hidden = true;
  if (isNode && !byId("overview").hidden) scrolled = window.scrollY;
  const came = byId("overview").hidden && !isNode;
  byId("overview").hidden = isNode;
  byId("node").hidden = !isNode;
  if (isNode) {
    showNode(view.node).then(() => {
      window.scrollTo(0, 0);
      const title = byId("node-title");
      if (title) title.focus({ preventScroll: true });
    });
    return;
  }
  const left = openedNode;
  openedNode = null;
  document.title = `${M.hyperparameters} · Feature browser`;
  showControls();
  refresh();
  if (came) window.scrollTo(0, scrolled);
  if (came && left !== null && lastOrder.includes(left)) table.focusRow(lastOrder.indexOf(left));
}

function followAddress() {
  const before = { ...view };
  readAddress();
  if (view.colour !== before.colour || view["colour-class"] !== before["colour-class"])
    map.recolour();
  if (view.map !== before.map && map.width) map.readView();
  if (view.node !== "") lastOrder = visibleNodes(view);
  showView();
}

function onKey(event) {
  const typing = event.target.closest("input,textarea,select,[contenteditable]");
  if (event.ctrlKey || event.metaKey || event.altKey || byId("about").open) return;
  if (event.key === "Escape" && view.node !== "" && !typing) closeNode();
  else if (typing) return;
  else if (event.key === "?") showAbout();
  else if (event.key === "/") {
    if (view.node !== "") closeNode();
    byId("q").focus();
    byId("q").select();
  } else if (view.node !== "" && (event.key === "ArrowLeft" || event.key === "ArrowRight"))
    step(event.key === "ArrowLeft" ? -1 : 1);
  else return;
  event.preventDefault();
}

async function start() {
  startTheme();
  try {
    await loadOverview();
  } catch (error) {
    if (!(error instanceof LoadError)) throw error;
    byId("loading").replaceChildren(
      h(
        "span",
        { class: "state-box failed", role: "alert" },
        h("b", {}, "Failed to load. "),
        `${error.message}.`,
      ),
    );
    return;
  }
  notes.start();
  readAddress();
  showHead();
  fillControls();
  byId("home").addEventListener("click", (event) => {
    event.preventDefault();
    if (view.node !== "") closeNode();
  });
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main-content").focus();
  });
  byId("locus-button").addEventListener("click", toggleLocus);
  byId("about-button").addEventListener("click", showAbout);
  exportMenu(
    byId("take-away"),
    nodesToTake,
    () => (selection.size ? "selection" : "nodes"),
    () =>
      selection.size
        ? `The ${plural(selection.size, "selected node")}`
        : `The ${plural(lastOrder.length, "node")} listed`,
  );
  lastOrder = visibleNodes(view);
  byId("overview").hidden = view.node !== "";
  table.start();
  map.start();
  showView();
  window.addEventListener("popstate", followAddress);
  document.addEventListener("keydown", onKey);
  // the first search is quick, too
  requestIdleCallback(() => haystacks());
  document.body.dataset.ready = performance.now().toFixed(1);
}
start();

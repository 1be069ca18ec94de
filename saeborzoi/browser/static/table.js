// The table of nodes. Only the rows in sight exist; the others are two tall empty rows.

const ROW_HEIGHT = 46;
const COLUMNS = [
  { id: "pick", class: "c-pick" },
  { id: "node", head: "Node", sort: "node", class: "c-node" },
  { id: "match", head: "Best match", sort: "match", class: "c-match" },
  {
    id: "motif",
    head: "Motif",
    sort: "motif",
    class: "c-logo",
    title: "Sorts by the motif's E-value",
  },
  { id: "q", head: "q", sort: "q", class: "c-q num", title: "q-value of the best match" },
  { id: "seqlets", head: "Seqlets", sort: "seqlets", class: "c-seqlets num" },
  {
    id: "frequency",
    head: "Fires at",
    sort: "frequency",
    class: "c-frequency num",
    title: "Share of positions where the node fires",
  },
  { id: "state", head: "State, flags", sort: "state", class: "c-state" },
];

const table = {
  nodes: [],
  active: 0, // place of the row that the keyboard is on
  first: -1,
  last: -1,

  start() {
    this.box = byId("table-box");
    this.head = h("tr", { role: "row" });
    this.body = h("tbody", {});
    const element = h(
      "table",
      { class: "nodes", "aria-label": "Nodes", "aria-describedby": "result-count" },
      h("thead", {}, this.head),
      this.body,
    );
    this.element = element;
    this.box.replaceChildren(element);
    this.headers();
    this.box.addEventListener("scroll", () => this.render(), { passive: true });
    new ResizeObserver(() => this.render(true)).observe(this.box);
    this.box.addEventListener("keydown", (event) => this.key(event));
  },

  headers() {
    this.head.replaceChildren(
      ...COLUMNS.map((column) => {
        if (!column.sort)
          return h("th", { scope: "col", class: column.class }, (this.everyone = this.pickAll()));
        const current = shownSort() === column.sort;
        const descending = view.sort.startsWith("-");
        return h(
          "th",
          {
            scope: "col",
            class: column.class,
            "aria-sort": current ? (descending ? "descending" : "ascending") : null,
          },
          h(
            "button",
            {
              type: "button",
              title: column.title,
              "data-sort": column.sort,
              onclick: () =>
                changeView({ sort: current && !descending ? "-" + column.sort : column.sort }),
            },
            column.head,
            h(
              "span",
              { class: "arrow", "aria-hidden": "true" },
              current ? (descending ? "▼" : "▲") : "",
            ),
          ),
        );
      }),
    );
  },

  pickAll() {
    const box = h("input", { type: "checkbox", "aria-label": "Select every node of the list" });
    box.addEventListener("change", () => {
      const listed = new Set(this.nodes);
      const others = [...selection].filter((node) => !listed.has(node));
      setSelection(box.checked ? [...others, ...this.nodes] : others);
    });
    return box;
  },
  showPicked() {
    const picked = this.nodes.filter((node) => selection.has(node)).length;
    this.everyone.checked = picked > 0 && picked === this.nodes.length;
    this.everyone.indeterminate = picked > 0 && picked < this.nodes.length;
  },

  show(nodes) {
    const kept = this.nodes[this.active];
    this.nodes = nodes;
    this.active = Math.max(0, nodes.indexOf(kept));
    this.element.setAttribute("aria-rowcount", String(nodes.length + 1));
    this.headers();
    this.render(true);
  },

  render(force = false) {
    const height = this.box.clientHeight || 600;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_HEIGHT) - 6);
    const last = Math.min(
      this.nodes.length,
      Math.ceil((this.box.scrollTop + height) / ROW_HEIGHT) + 6,
    );
    if (!force && first === this.first && last === this.last) return;
    const focused =
      document.activeElement &&
      document.activeElement.closest &&
      document.activeElement.closest("tr[data-node]");
    const held = focused && this.body.contains(focused) ? focused.dataset.node : null;
    this.first = first;
    this.last = last;
    const rows = [];
    for (let place = first; place < last; place += 1) rows.push(this.row(place));
    if (!this.nodes.length) {
      rows.push(
        h(
          "tr",
          {},
          h(
            "td",
            { colspan: COLUMNS.length, class: "empty" },
            "No node fits the search and the filters. ",
            h("button", { type: "button", class: "link", onclick: resetFilters }, "Reset them"),
          ),
        ),
      );
    }
    this.body.replaceChildren(this.gap(first), ...rows, this.gap(this.nodes.length - last));
    if (held !== null) {
      const row = this.body.querySelector(`tr[data-node="${held}"]`);
      if (row) row.focus({ preventScroll: true });
    }
  },

  gap(count) {
    return h(
      "tr",
      { "aria-hidden": "true", class: "gap" },
      h("td", { style: { height: `${count * ROW_HEIGHT}px`, padding: "0" } }),
    );
  },

  row(place) {
    const node = this.nodes[place];
    const picked = selection.has(node);
    const label = labelOf(node);
    const name = [label, nameOf(node)].filter(Boolean).join(", ");
    const matrix = D.matrix[node];
    const box = h("input", {
      type: "checkbox",
      "aria-label": `Select node ${node}`,
      tabindex: "-1",
      onclick: (event) => {
        event.stopPropagation();
        toggleSelected(node);
      },
    });
    box.checked = picked;
    return h(
      "tr",
      {
        "data-node": node,
        "aria-rowindex": place + 2,
        tabindex: place === this.active ? "0" : "-1",
        class: picked ? "picked" : null,
        "aria-label": `Node ${node}, ${STATES[stateOf(node)].word}${name ? `, ${name}` : ""}`,
        onmouseenter: () => map.point(node),
        onmouseleave: () => map.point(null),
        onfocus: () => this.focused(place),
        onclick: (event) => {
          if (!event.target.closest("a,input,button")) openNode(node);
        },
      },
      h("td", { class: "c-pick" }, box),
      h(
        "td",
        { class: "c-node" },
        h(
          "a",
          {
            href: address({ node: String(node) }),
            tabindex: "-1",
            onclick: (event) => followNode(event, node),
          },
          String(node),
        ),
        notes.isFavourite(node) && h("span", { class: "mark", title: "favourite" }, "★"),
      ),
      h(
        "td",
        { class: "c-match" },
        name
          ? [
              h("span", { class: "name" }, label || familyOf(node)),
              h(
                "span",
                { class: "family", title: name },
                alsoFound(node) || (label ? nameOf(node) : fitsOf(node).join(", ")),
              ),
            ]
          : h("span", { class: "missing" }, MISSING),
      ),
      h(
        "td",
        { class: "c-logo" },
        matrix
          ? smallLogo(unpackMatrix(matrix), `motif ${D.consensus[node] || ""}`)
          : h("span", { class: "missing" }, MISSING),
      ),
      h("td", { class: "c-q num" }, scientific(D.log10_q[node])),
      h("td", { class: "c-seqlets num" }, whole(D.n_seqlets[node])),
      h("td", { class: "c-frequency num" }, percent(D.frequency[node])),
      h(
        "td",
        { class: "c-state" },
        badge(node),
        flagsOf(node).map((flag) => flagMark(flag)),
      ),
    );
  },

  scrollTo(place) {
    const top = place * ROW_HEIGHT;
    const height = this.box.clientHeight - ROW_HEIGHT;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + ROW_HEIGHT > this.box.scrollTop + height)
      this.box.scrollTop = top + ROW_HEIGHT - height;
  },

  focusRow(place) {
    const to = Math.min(Math.max(place, 0), this.nodes.length - 1);
    this.scrollTo(to);
    this.render(true);
    const row = this.body.querySelector(`tr[data-node="${this.nodes[to]}"]`);
    if (row) row.focus({ preventScroll: true });
  },

  // one row at a time can be reached with Tab: the one that was focused last
  focused(place) {
    const before = this.body.querySelector('tr[data-node][tabindex="0"]');
    if (before) before.tabIndex = -1;
    this.active = place;
    const row = this.body.querySelector(`tr[aria-rowindex="${place + 2}"]`);
    if (row) row.tabIndex = 0;
    map.point(this.nodes[place]);
  },

  key(event) {
    if (event.target.closest("th,input,button") || !this.nodes.length) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_HEIGHT) - 2);
    const onRow = event.target.closest("tr[data-node]");
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[event.key];
    if (step) this.focusRow(onRow ? this.active + step : this.active);
    else if (event.key === "Home") this.focusRow(0);
    else if (event.key === "End") this.focusRow(this.nodes.length - 1);
    else if (onRow && event.key === "Enter") openNode(this.nodes[this.active]);
    else if (onRow && event.key === " ") toggleSelected(this.nodes[this.active]);
    else return;
    event.preventDefault();
  },
};

// Artefacts and doubts stand out; what is merely so does not.
function flagMark(flag, words = flag) {
  return h(
    "span",
    {
      class: flag === "palindrome" ? "flag property" : "flag",
      title: FLAG_MEANINGS[flag] || "The motif is suspect.",
    },
    words,
  );
}

function badge(node) {
  const state = stateOf(node);
  const reason =
    state === "n" && D.reason[node] >= 0 ? ` Reason: ${D.reasons[D.reason[node]]}.` : "";
  return h(
    "span",
    { class: `badge state-${state}`, title: STATES[state].meaning + reason },
    STATES[state].word,
  );
}

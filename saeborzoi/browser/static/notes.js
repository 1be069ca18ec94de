// Favourites and notes: kept in this browser, taken away and brought back as one JSON file.

const notes = {
  entries: {},
  get place() {
    return `saeborzoi:notes:${M.provenance.project || ""}:${M.hyperparameters}`;
  },
  start() {
    this.entries = kept.read(this.place) || {};
  },
  isFavourite(node) {
    return Boolean(this.entries[node] && this.entries[node].favourite);
  },
  text(node) {
    return (this.entries[node] && this.entries[node].note) || "";
  },
  set(node, change) {
    const entry = { favourite: false, note: "", ...this.entries[node], ...change };
    if (entry.favourite || entry.note) this.entries[node] = entry;
    else delete this.entries[node];
    kept.write(this.place, this.entries);
  },
  asDocument() {
    return { format: "saeborzoi-notes", hyperparameters: M.hyperparameters, nodes: this.entries };
  },
  // Notes of the file are added; where both have a node, the file's entry stands.
  read(text) {
    let given;
    try {
      given = JSON.parse(text);
    } catch {
      throw new Error("the file is not JSON; choose one that this page exported");
    }
    if (
      !given ||
      given.format !== "saeborzoi-notes" ||
      typeof given.nodes !== "object" ||
      given.nodes === null
    ) {
      throw new Error("the file holds no notes; choose one that this page exported");
    }
    if (given.hyperparameters !== M.hyperparameters) {
      throw new Error(
        `the notes are of the SAE ${given.hyperparameters}, this is ${M.hyperparameters}; open them on that SAE's pages`,
      );
    }
    let count = 0;
    for (const [node, entry] of Object.entries(given.nodes)) {
      if (
        !/^\d+$/.test(node) ||
        Number(node) >= M.n_nodes ||
        typeof entry !== "object" ||
        entry === null
      )
        continue;
      this.entries[node] = { favourite: Boolean(entry.favourite), note: String(entry.note || "") };
      count += 1;
    }
    kept.write(this.place, this.entries);
    return count;
  },
};

function starButton(node, onchange) {
  const button = h("button", { type: "button", class: "star" });
  const show = () => {
    const on = notes.isFavourite(node);
    button.textContent = on ? "★" : "☆";
    button.setAttribute("aria-pressed", String(on));
    button.setAttribute("aria-label", `Favourite node ${node}`);
  };
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    notes.set(node, { favourite: !notes.isFavourite(node) });
    show();
    if (onchange) onchange();
  });
  show();
  return button;
}

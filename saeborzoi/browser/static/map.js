// The map: nodes at their UMAP coordinates on a canvas. Drag moves, wheel or pinch zooms, the lasso
// (or Shift and drag) selects, a click opens a node, Ctrl or Cmd and click selects it.

const map = {
  placed: [], // nodes that have coordinates
  visible: new Set(),
  centre: [0, 0],
  scale: 1, // pixels a UMAP unit
  fitScale: 1,
  hovered: null,
  pointed: null,
  path: null, // lasso being drawn
  isLasso: false,
  queued: false,

  start() {
    this.canvas = byId("map");
    this.context = this.canvas.getContext("2d");
    this.box = byId("map-box");
    this.tooltip = byId("tooltip");
    this.placed = [];
    for (let node = 0; node < M.n_nodes; node += 1)
      if (!isMissing(D.x[node])) this.placed.push(node);
    this.measure();
    const empty = byId("map-empty");
    if (!this.placed.length) {
      empty.textContent = M.computed.node_embedding
        ? "No node has a place on the map: none was selected."
        : "Not yet computed: materialize umap_embedding to place the nodes on a map.";
      empty.hidden = false;
    }
    new ResizeObserver(() => this.resize()).observe(this.box);
    this.listen();
    themeListeners.push(() => this.recolour());
    this.recolour();
  },

  measure() {
    const xs = this.placed.map((node) => D.x[node]);
    const ys = this.placed.map((node) => D.y[node]);
    const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
    const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
    this.bounds = this.placed.length ? [least(xs), most(xs), least(ys), most(ys)] : [0, 1, 0, 1];
  },

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || !height) return;
    const before = this.width;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.width = width;
    this.height = height;
    const [x0, x1, y0, y1] = this.bounds;
    const was = this.fitScale;
    this.fitScale =
      0.92 * Math.min(width / Math.max(x1 - x0, 1e-6), height / Math.max(y1 - y0, 1e-6));
    if (!before) this.readView();
    else this.scale *= this.fitScale / was;
    this.draw();
  },

  readView() {
    const [x, y, zoom] = view.map.split(",").map(Number);
    if (view.map && [x, y, zoom].every(Number.isFinite)) {
      this.centre = [x, y];
      this.scale = this.fitScale * Math.min(Math.max(zoom, 0.5), 60);
    } else this.centreAll();
  },
  centreAll() {
    const [x0, x1, y0, y1] = this.bounds;
    this.centre = [(x0 + x1) / 2, (y0 + y1) / 2];
    this.scale = this.fitScale;
  },
  moved() {
    const zoom = this.scale / this.fitScale;
    const [x0, x1, y0, y1] = this.bounds;
    const home =
      Math.abs(zoom - 1) < 0.01 &&
      Math.hypot(this.centre[0] - (x0 + x1) / 2, this.centre[1] - (y0 + y1) / 2) * this.scale < 2;
    view.map = home ? "" : [...this.centre.map((v) => v.toFixed(3)), zoom.toFixed(3)].join(",");
    clearTimeout(this.writing);
    this.writing = setTimeout(writeAddress, 200);
    this.draw();
  },

  toScreen(node) {
    return [
      this.width / 2 + (D.x[node] - this.centre[0]) * this.scale,
      this.height / 2 - (D.y[node] - this.centre[1]) * this.scale,
    ];
  },
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.fitScale * 0.5), this.fitScale * 60);
    const shift = 1 / this.scale - 1 / scale;
    this.centre = [
      this.centre[0] + (x - this.width / 2) * shift,
      this.centre[1] - (y - this.height / 2) * shift,
    ];
    this.scale = scale;
    this.moved();
  },
  pan(dx, dy) {
    this.centre = [this.centre[0] - dx / this.scale, this.centre[1] + dy / this.scale];
    this.moved();
  },

  recolour() {
    if (!D) return;
    const chosen = colouring();
    this.colours = new Map();
    for (const node of this.placed) {
      const colour = chosen.of(node);
      if (!this.colours.has(colour)) this.colours.set(colour, []);
      this.colours.get(colour).push(node);
    }
    drawLegend(byId("legend"), chosen);
    byId("legend").hidden = !this.placed.length;
    this.none = cssColour("--dot-none");
    this.canvas.setAttribute(
      "aria-label",
      `Map of ${plural(this.placed.length, "node")} by UMAP, coloured by ${(COLOURINGS[view.colour] || COLOURINGS.family).word}${view.colour === "cluster" ? `: ${D.clusters.map(labelOfCluster).join(", ")}` : ""}`,
    );
    this.draw();
  },
  show(nodes) {
    this.visible = new Set(nodes);
    byId("map-note").textContent = mapNote(this.placed.length);
    this.draw();
  },
  point(node) {
    if (this.pointed === node) return;
    this.pointed = node;
    this.draw();
  },

  draw() {
    if (this.queued || !this.width) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      this.paint();
    });
  },

  radius() {
    const base = Math.min(4.2, Math.max(1.6, 90 / Math.sqrt(this.placed.length || 1)));
    return base * Math.min(2.2, Math.max(1, (this.scale / this.fitScale) ** 0.4));
  },

  paint() {
    const ctx = this.context;
    const ratio = window.devicePixelRatio || 1;
    const radius = this.radius();
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    // what the filters hide stays as a shadow, so that the shape of the map does not change
    for (const shadow of [true, false]) {
      ctx.globalAlpha = shadow ? 0.16 : 0.9;
      for (const [colour, nodes] of this.colours) {
        ctx.fillStyle = colour && !shadow ? colour : this.none;
        ctx.beginPath();
        for (const node of nodes) {
          if (this.visible.has(node) === shadow) continue;
          const [x, y] = this.toScreen(node);
          if (x < -9 || y < -9 || x > this.width + 9 || y > this.height + 9) continue;
          ctx.moveTo(x + radius, y);
          ctx.arc(x, y, radius, 0, 7);
        }
        ctx.fill();
      }
    }
    ctx.globalAlpha = 1;
    if (view.colour === "cluster") paintClusters(this);
    this.ring(
      [...selection].filter((node) => !isMissing(D.x[node])),
      radius + 1.6,
      cssColour("--ink"),
      1.4,
    );
    const marked = isMissing(this.hovered) ? this.pointed : this.hovered;
    if (!isMissing(marked) && !isMissing(D.x[marked]))
      this.ring([marked], radius + 4, cssColour("--accent"), 2.5);
    if (this.path) {
      ctx.beginPath();
      this.path.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
      ctx.closePath();
      ctx.fillStyle = cssColour("--accent");
      ctx.globalAlpha = 0.12;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.strokeStyle = cssColour("--accent");
      ctx.lineWidth = 1.5;
      ctx.stroke();
    }
  },
  ring(nodes, radius, colour, width) {
    const ctx = this.context;
    ctx.strokeStyle = colour;
    ctx.lineWidth = width;
    ctx.beginPath();
    for (const node of nodes) {
      const [x, y] = this.toScreen(node);
      ctx.moveTo(x + radius, y);
      ctx.arc(x, y, radius, 0, 7);
    }
    ctx.stroke();
  },

  nearest(x, y) {
    let best = null;
    let least = (this.radius() + 6) ** 2;
    for (const node of this.placed) {
      if (!this.visible.has(node)) continue;
      const [px, py] = this.toScreen(node);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) {
        least = distance;
        best = node;
      }
    }
    return best;
  },

  hover(x, y) {
    const node = this.nearest(x, y);
    if (node !== this.hovered) {
      this.hovered = node;
      this.draw();
    }
    this.canvas.style.cursor = this.isLasso ? "crosshair" : node === null ? "grab" : "pointer";
    this.tooltip.hidden = node === null;
    if (node === null) return;
    const name = familyOf(node);
    this.tooltip.replaceChildren(
      h("strong", {}, `Node ${node}`),
      h(
        "span",
        {},
        name ? `${name} · q ${scientific(D.log10_q[node])}` : STATES[stateOf(node)].word,
      ),
      name && h("span", { class: "family" }, fitsOf(node).slice(0, 5).join(", ")),
      D.matrix[node] ? smallLogo(unpackMatrix(D.matrix[node]), "") : "",
      h("span", { class: "family" }, `fires at ${percent(D.frequency[node])} of positions`),
    );
    const width = this.tooltip.offsetWidth;
    const height = this.tooltip.offsetHeight;
    this.tooltip.style.left = `${Math.max(4, Math.min(x + 14, this.width - width - 4))}px`;
    this.tooltip.style.top = `${y + height + 18 > this.height ? Math.max(4, y - height - 12) : y + 14}px`;
  },

  inLasso(path) {
    return this.placed.filter((node) => {
      if (!this.visible.has(node)) return false;
      const [x, y] = this.toScreen(node);
      let inside = false;
      for (let i = 0, j = path.length - 1; i < path.length; j = i, i += 1) {
        const [xi, yi] = path[i];
        const [xj, yj] = path[j];
        if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
      }
      return inside;
    });
  },
  setLasso(on) {
    this.isLasso = on;
    byId("lasso").setAttribute("aria-pressed", String(on));
    this.canvas.style.cursor = on ? "crosshair" : "grab";
  },

  listen() {
    const pointers = new Map();
    let start = null;
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      start = { at: at(event), moved: false };
      this.path = pointers.size === 1 && (this.isLasso || event.shiftKey) ? [at(event)] : null;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const here = at(event);
      if (!pointers.has(event.pointerId)) {
        this.hover(...here);
        return;
      }
      const before = pointers.get(event.pointerId);
      pointers.set(event.pointerId, here);
      if (start && Math.hypot(here[0] - start.at[0], here[1] - start.at[1]) > 4) start.moved = true;
      if (this.path) {
        this.path.push(here);
        this.draw();
      } else if (pointers.size === 2) {
        const [other] = [...pointers]
          .filter(([id]) => id !== event.pointerId)
          .map(([, place]) => place);
        const distance = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
        this.zoom(
          distance(here) / Math.max(1, distance(before)),
          (here[0] + other[0]) / 2,
          (here[1] + other[1]) / 2,
        );
      } else if (start && start.moved) {
        this.tooltip.hidden = true;
        this.pan(here[0] - before[0], here[1] - before[1]);
      }
    });
    const finish = (event, cancelled) => {
      if (!pointers.delete(event.pointerId)) return;
      const path = this.path;
      this.path = null;
      if (cancelled || !start) {
        this.draw();
        return;
      }
      if (path && start.moved) {
        const found = this.inLasso(path);
        setSelection(event.ctrlKey || event.metaKey ? [...selection, ...found] : found);
        this.setLasso(false);
      } else if (!start.moved) {
        const node = this.nearest(...at(event));
        if (node !== null) {
          if (event.ctrlKey || event.metaKey || this.isLasso || event.shiftKey)
            toggleSelected(node);
          else openNode(node);
        }
      }
      start = null;
      this.draw();
    };
    this.canvas.addEventListener("pointerup", (event) => finish(event, false));
    this.canvas.addEventListener("pointercancel", (event) => finish(event, true));
    this.canvas.addEventListener("pointerleave", () => {
      this.hovered = null;
      this.tooltip.hidden = true;
      this.draw();
    });
    this.canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY * 0.0016), ...at(event));
      },
      { passive: false },
    );
    this.canvas.addEventListener("keydown", (event) => {
      const pans = {
        ArrowLeft: [40, 0],
        ArrowRight: [-40, 0],
        ArrowUp: [0, 40],
        ArrowDown: [0, -40],
      };
      if (pans[event.key]) this.pan(...pans[event.key]);
      else if (event.key === "+" || event.key === "=") this.zoom(1.3);
      else if (event.key === "-") this.zoom(1 / 1.3);
      else if (event.key === "0") {
        this.centreAll();
        this.moved();
      } else return;
      event.preventDefault();
    });
    byId("lasso").addEventListener("click", () => this.setLasso(!this.isLasso));
    byId("zoom-in").addEventListener("click", () => this.zoom(1.4));
    byId("zoom-out").addEventListener("click", () => this.zoom(1 / 1.4));
    byId("zoom-fit").addEventListener("click", () => {
      this.centreAll();
      this.moved();
    });
  },
};

// The page of a circuit: a graph to walk through, layer by layer, what it carries alone, and how it was checked.

import { h, replace, svg } from "./dom.js";
import { EmbeddedSource } from "./embedded_source.js";
import { Figures } from "./figures.js";
import { themeButton } from "./frame.js";
import { factList } from "./overview.js";
import { Appearance } from "./theme.js";

const ROW = 34;
const COLUMN = 190;
const TOP = 44;
const LEFT = 64;
const OUTCOME = "outcome";

function signed(value, digits = 3) {
  return `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`;
}

function range(interval) {
  return interval ? ` (${signed(interval[0])} to ${signed(interval[1])})` : "";
}

function shortHook(name) {
  return name.replace("blocks.", "").replace("hook_", "");
}

// How many random circuits of as many nodes at each hook are less faithful.
function beaten(beats, n) {
  const size = ([nodes]) => nodes.toLocaleString("en-US");
  if (beats.length === 0) return "no random circuits were drawn";
  if (beats.every(([, share]) => share === 1)) return `more faithful than each of ${n} random circuits of ${beats.map(size).join(", ")} nodes`;
  return `random circuits that are less faithful, of ${n} of each size: ${beats.map((one) => `${size(one)} nodes ${Math.round(100 * one[1])}%`).join(", ")}`;
}

class CircuitPage {
  constructor(source) {
    this.summary = source.summary;
    this.theme = new Appearance();
    this.figures = new Figures(source, this.theme);
    this.nodes = new Map(this.summary.columns.flatMap((column) => column.nodes.map((node) => [node.name, node])));
    this.least = { node: this.summary.thresholds.node, edge: this.summary.thresholds.edge };
    this.graph = h("div", { class: "graph" });
    this.detail = h("aside", { class: "detail" });
    replace(document.getElementById("page"), this.header(), h("main", {}, this.body()));
    window.addEventListener("hashchange", () => this.follow());
    window.addEventListener("keydown", (event) => this.key(event));
    this.draw();
    this.follow();
    document.documentElement.dataset.shown = "overview";
  }

  header() {
    const { title, model, outcome, n_prompts: n } = this.summary;
    const found = this.summary.agreement === null ? "not measured" : this.summary.agreement.toFixed(3);
    return h(
      "header",
      {},
      h("span", { class: "run" }, title),
      h("span", { class: "about muted" }, `${model ?? ""} \u00b7 `, h("b", {}, outcome), ` \u00b7 found on ${n} pairs`),
      h("span", { class: "headline spread" }, h("span", {}, h("span", { class: "muted" }, "attribution and ablation correlate "), h("b", {}, found))),
      themeButton(this.theme),
    );
  }

  body() {
    const checks = this.figures;
    const place = (name, title, note) => (this.summary.figures.includes(name) ? checks.place(name, title, note) : h("section", {}, h("h3", {}, title), h("p", { class: "muted" }, "Not measured.")));
    return h(
      "div",
      { class: "circuit" },
      h("p", { class: "lead" }, this.lead()),
      h("section", {}, this.tools(), h("div", { class: "explore" }, h("div", { class: "wide" }, this.graph), this.detail)),
      place("faithfulness", "What the circuit carries on held-out pairs", this.curves()),
      place("ablation", "Attribution against real ablation", "a node each, ablated alone; the line is equality"),
      h("section", {}, h("h3", {}, "Made from"), factList(this.summary.provenance)),
    );
  }

  lead() {
    const { reference, units, n_candidates: n, outcome, baseline } = this.summary;
    return `The ${outcome} is ${signed(reference.clean)} ${units} in the model and ${signed(reference.empty)} with every node ablated (${baseline}). Effects are shares of that difference; ${n.toLocaleString("en-US")} nodes were scored. Edges must not be added up: a path would be counted once for each of its edges.`;
  }

  curves() {
    const lines = this.summary.curves.map(({ arm, half, beats, n_random: n }) => {
      const least = half === null ? "no size carries half" : `${half.toLocaleString("en-US")} nodes carry half`;
      return `${arm}: ${least}; ${beaten(beats, n)}`;
    });
    return `${lines.join(". ")}.`;
  }

  tools() {
    const slider = (key, label) => {
      const from = this.summary.thresholds[key];
      const value = h("output", {}, from.toFixed(3));
      const strongest = key === "node" ? [...this.nodes.values()] : this.summary.edges;
      const most = Math.max(from, ...strongest.map((one) => Math.abs(one.effect)));
      const input = h("input", { type: "range", min: 0, max: 100, value: 0, "aria-label": label });
      input.addEventListener("input", () => {
        this.least[key] = from * Math.pow(most / from || 1, input.value / 100) || (most * input.value) / 100;
        value.textContent = this.least[key].toFixed(3);
        this.draw();
      });
      return h("label", { class: "slider" }, h("span", { class: "muted" }, label), input, value);
    };
    return h(
      "div",
      { class: "graph-tools" },
      h("h3", {}, "The graph"),
      slider("node", "least node"),
      slider("edge", "least edge"),
      h("span", { class: "legend small muted" }, h("i", { class: "up" }), "speaks for it ", h("i", { class: "down" }), "against it ", h("i", { class: "square" }), "error of a dictionary"),
    );
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    if (event.key === "t") this.theme.toggle();
    const order = [...this.nodes.values()].filter((node) => Math.abs(node.effect) >= this.least.node).sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
    const step = { j: 1, k: -1 }[event.key];
    if (!step || order.length === 0) return;
    const now = order.findIndex((node) => node.name === this.chosen);
    this.choose(order[(now + step + order.length) % order.length].name);
  }

  // Which node is looked at is part of the address.
  follow() {
    const name = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
    this.chosen = this.nodes.has(name) ? name : null;
    this.mark(this.chosen);
    this.tell();
  }

  choose(name) {
    location.hash = `#/${encodeURIComponent(name)}`;
  }

  shown() {
    const held = this.summary.columns.map((column) => ({ ...column, nodes: column.nodes.filter((node) => Math.abs(node.effect) >= this.least.node) }));
    const names = new Set(held.flatMap((column) => column.nodes.map((node) => node.name)));
    names.add(OUTCOME);
    const edges = this.summary.edges.filter((edge) => Math.abs(edge.effect) >= this.least.edge && names.has(edge.source) && names.has(edge.target));
    return { held, edges };
  }

  draw() {
    const { held, edges } = this.shown();
    const most = Math.max(1, ...held.map((column) => column.nodes.length));
    const features = [...this.nodes.values()].some((node) => node.kind === "feature");
    const width = Math.max(720, (features ? COLUMN : COLUMN / 2) * (held.length + 1));
    const height = TOP + ROW * most + 24;
    const across = (width - LEFT - 110) / held.length;
    const at = new Map([[OUTCOME, [width - 110, TOP + (ROW * most) / 2]]]);
    for (const [x, column] of held.entries()) {
      const gap = (ROW * most) / Math.max(column.nodes.length, 1);
      for (const [y, node] of column.nodes.entries()) at.set(node.name, [LEFT + x * across, TOP + gap * (y + 0.5)]);
    }
    const strongest = Math.max(...edges.map((edge) => Math.abs(edge.effect)), 1e-9);
    const limit = Math.max(...[...this.nodes.values()].map((node) => Math.abs(node.effect)), 1e-9);
    replace(
      this.graph,
      svg(
        "svg",
        { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "The circuit as a graph" },
        held.map((column, x) => svg("text", { x: LEFT + x * across, y: 18, class: "column" }, shortHook(column.name))),
        edges.map((edge) => this.edge(edge, at, strongest)),
        held.flatMap((column) => column.nodes.map((node) => this.node(node, at.get(node.name), limit))),
        svg("text", { x: width - 98, y: TOP + (ROW * most) / 2 + 4, class: "end" }, this.summary.outcome),
      ),
    );
    this.mark(this.chosen);
    this.tell();
  }

  edge(edge, at, strongest) {
    const [[x0, y0], [x1, y1]] = [at.get(edge.source), at.get(edge.target)];
    const part = Math.abs(edge.effect) / strongest;
    const bend = (x1 - x0) / 2;
    return svg(
      "path",
      { d: `M${x0},${y0} C${x0 + bend},${y0} ${x1 - bend},${y1} ${x1},${y1}`, class: `edge ${edge.effect < 0 ? "down" : "up"}`, "stroke-width": (0.7 + 5 * part).toFixed(2), "stroke-opacity": (0.28 + 0.6 * part).toFixed(2), "data-source": edge.source, "data-target": edge.target },
      svg("title", {}, `${edge.source} \u2192 ${edge.target}: ${signed(edge.effect, 4)}`),
    );
  }

  node(node, [x, y], limit) {
    const strength = Math.round((Math.abs(node.effect) / limit) * 100);
    const fill = `color-mix(in srgb, var(${node.effect < 0 ? "--down" : "--up"}) ${Math.max(strength, 6)}%, var(--panel))`;
    const shape = node.kind === "error" ? svg("rect", { x: x - 8, y: y - 8, width: 16, height: 16, style: { fill } }) : svg("circle", { cx: x, cy: y, r: 9, style: { fill } });
    const token = node.tokens.length ? ` ${node.tokens[0].trim()}` : "";
    const element = svg("g", { class: "node", tabindex: 0, role: "button", "data-name": node.name, "aria-label": `${node.name}, effect ${signed(node.effect)}` }, svg("title", {}, `${node.name}: attribution ${signed(node.effect)}`), shape, svg("text", { x: x + 13, y: y - 6, class: "name" }, node.short, svg("tspan", { class: "token" }, token)));
    element.addEventListener("click", () => this.choose(node.name));
    element.addEventListener("keydown", (event) => event.key === "Enter" && this.choose(node.name));
    element.addEventListener("pointerenter", () => this.mark(node.name));
    element.addEventListener("pointerleave", () => this.mark(this.chosen));
    return element;
  }

  // The node's own edges stay, the others step back.
  mark(name) {
    this.graph.classList.toggle("marked", Boolean(name));
    for (const path of this.graph.querySelectorAll(".edge")) path.classList.toggle("own", path.dataset.source === name || path.dataset.target === name);
    for (const group of this.graph.querySelectorAll(".node")) group.classList.toggle("chosen", group.dataset.name === name);
  }

  tell() {
    const node = this.nodes.get(this.chosen);
    if (!node) {
      replace(this.detail, h("p", { class: "muted" }, "Click a node to see what it does; j and k walk through them, strongest first."));
      return;
    }
    const { edges } = this.shown();
    const lines = (chosen, end, title) => (chosen.length ? [h("h3", {}, title), h("ul", { class: "ends" }, chosen.slice(0, 12).map((edge) => h("li", {}, this.link(edge[end]), h("span", { class: "amount" }, signed(edge.effect)))))] : []);
    const ablated = node.ablation === null ? "not measured" : `${signed(node.ablation)}${range(node.ablation_interval)}`;
    replace(
      this.detail,
      h("h2", {}, node.kind === "feature" ? `Feature ${node.short}` : node.short),
      h("p", { class: "muted small" }, node.hook),
      factList([["attribution", `${signed(node.effect)}${range(node.interval)}`], ["ablated alone", ablated]]),
      node.tokens.length ? h("p", { class: "fires" }, h("span", { class: "muted small" }, "most active on "), node.tokens.map((token) => [h("span", { class: "chip" }, token.replaceAll(" ", "\u2423").replaceAll("\n", "\u21b5")), " "])) : null,
      node.link ? h("p", {}, h("a", { href: node.link }, "its page in the report")) : node.kind === "feature" ? h("p", { class: "muted small" }, "The run has no report yet: interp report makes one.") : null,
      lines(edges.filter((edge) => edge.target === node.name), "source", "Comes from"),
      lines(edges.filter((edge) => edge.source === node.name), "target", "Goes to"),
    );
  }

  link(name) {
    const node = this.nodes.get(name);
    if (!node) return h("span", {}, this.summary.outcome);
    const token = node.tokens.length ? ` ${node.tokens[0].trim()}` : "";
    return h("a", { class: "plain", href: `#/${encodeURIComponent(name)}` }, node.kind === "feature" || node.kind === "error" ? `${shortHook(node.hook)} ${node.short}` : node.short, h("span", { class: "muted" }, token));
  }
}

function start() {
  const page = document.getElementById("page");
  if (!("DecompressionStream" in window)) {
    page.textContent = "This page needs a browser of 2023 or later (DecompressionStream).";
    return;
  }
  new CircuitPage(new EmbeddedSource());
}

start();

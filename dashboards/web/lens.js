// The page of lenses: the layer by token grid, precision and surprisal of every arm, tuned beside logit lens.

import { h, replace } from "./dom.js";
import { EmbeddedSource } from "./embedded_source.js";
import { Figures } from "./figures.js";
import { chip, precise, signed } from "./format.js";
import { themeButton } from "./frame.js";
import { factList, repeat } from "./overview.js";
import { Appearance } from "./theme.js";

const MODES = {
  blind: "blind: nothing but the state enters",
  fed: "fed: the true tokens in between stand behind the state",
};

// A grid whose cells lead to everything that the lens expects there.
class GridFigures extends Figures {
  async fill(canvas) {
    await super.fill(canvas);
    if (canvas.dataset.leads || !this.hosts.get(canvas).startsWith("grid-")) return;
    canvas.dataset.leads = "true";
    canvas.on("plotly_click", ({ points }) => this.onCell?.(points[0].y, points[0].x));
  }
}

class LensPage {
  constructor(source) {
    this.summary = source.summary;
    this.theme = new Appearance();
    this.figures = new GridFigures(source, this.theme);
    this.figures.onCell = (layer, at) => this.go({ layer, at });
    this.read();
    replace(document.getElementById("page"), this.header(), h("main", {}, this.body()));
    this.show();
    window.addEventListener("hashchange", () => {
      this.read();
      this.show();
    });
    window.addEventListener("keydown", (event) => this.key(event));
    document.documentElement.dataset.shown = "lens";
  }

  // What is looked at stands in the address.
  read() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const whole = (name, below, otherwise) => {
      const value = Number(asked.get(name) ?? otherwise);
      return Number.isInteger(value) && value >= 0 && value < below ? value : otherwise;
    };
    const { grids, table } = this.summary;
    // The first that reads several tokens ahead.
    const ahead = grids.findIndex((one) => one.top[0][0].length > 1);
    const grid = whole("grid", grids.length, Math.max(0, ahead));
    const held = grids[grid];
    this.state = {
      grid,
      layer: held ? whole("layer", held.layers.length, held.layers.length - 1) : 0,
      at: held ? whole("at", held.tokens.length, held.tokens.length - 1) : 0,
      n: table ? whole("n", table.n_distances, Math.min(1, table.n_distances - 1)) : 0,
      mode: asked.get("mode") === "fed" ? "fed" : "blind",
    };
  }

  go(change) {
    location.hash = new URLSearchParams({ ...this.state, ...change }).toString();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("select, input")) return;
    const held = this.summary.grids[this.state.grid];
    const step = { j: [0, 1], k: [0, -1], J: [-1, 0], K: [1, 0] }[event.key];
    if (event.key === "t") this.theme.toggle();
    if (!step || !held) return;
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    this.go({ layer: within(this.state.layer + step[0], held.layers.length), at: within(this.state.at + step[1], held.tokens.length) });
  }

  header() {
    const { name, model } = this.summary;
    return h("header", {}, h("span", { class: "run" }, name), h("span", { class: "about muted" }, model), h("span", { class: "headline spread" }, this.headline()), themeButton(this.theme));
  }

  headline() {
    const { divergence, table } = this.summary;
    const keys = [];
    if (divergence) {
      const below = divergence.layers.filter(([, , , [, between]]) => between && between[1] < 0).length;
      keys.push(["tuned below logit lens", `${below} of ${divergence.layers.length} layers`]);
    }
    const best = table ? bestOf(table, "blind", 1) : null;
    if (best) keys.push([`best blind precision@1, N=1`, `${precise(best.figures[0][0])} (${best.arm}, ${best.layer})`]);
    return keys.map(([label, value]) => h("span", { class: "key" }, h("span", { class: "muted" }, label), " ", h("b", {}, value)));
  }

  body() {
    const { divergence, table } = this.summary;
    this.gridHost = h("div", { class: "grid-host" });
    this.cellHost = h("div", { class: "cell", "aria-live": "polite" });
    this.tableHost = h("div", { class: "wide" });
    this.curvesHost = h("div", {});
    return h(
      "div",
      { class: "lens" },
      this.grids(),
      table ? this.arms(table) : absent("Precision by layer and distance", "the runs hold no Future Lens"),
      divergence ? this.divergence(divergence) : absent("Tuned lens beside logit lens", "the runs hold no tuned lens"),
      h("div", { class: "pair" }, h("section", {}, h("h3", {}, "Made from"), factList(this.summary.provenance)), repeat(this.summary)),
    );
  }

  grids() {
    const { grids } = this.summary;
    if (!grids.length) return absent("What each layer expects", "no text was read");
    const choose = h("select", { class: "quiet", "aria-label": "lens", onchange: (event) => this.go({ grid: event.target.value }) }, grids.map((grid, index) => h("option", { value: index }, grid.method)));
    this.chooser = choose;
    const note = "a cell shows the likeliest next token behind a token at a layer; opacity is the mean probability over all distances; click a cell, or move with j k and J K";
    return h("section", { class: "reading" }, h("div", { class: "title" }, h("h3", {}, "What each layer expects"), choose), h("p", { class: "muted small" }, note), this.gridHost, this.cellHost);
  }

  arms(table) {
    const button = (label, change) => h("button", { class: "quiet", "data-change": JSON.stringify(change), onclick: () => this.go(change) }, label);
    const modes = table.modes.map((mode) => button(mode, { mode }));
    const distances = Array.from({ length: table.n_distances }, (_, n) => button(`N = ${n}`, { n }));
    this.buttons = [...modes, ...distances];
    this.modeNote = h("p", { class: "muted small" });
    const decoding = table.decoding === "greedy" ? "the model's own greedy continuations" : "continuations that the model drew at temperature 1";
    const read = table.reconstructed.length ? `At ${table.reconstructed.join(", ")} lenses read a reconstruction instead of the states. ` : "";
    return h(
      "section",
      { class: "arms" },
      h("div", { class: "title" }, h("h3", {}, "Precision and surprisal by layer and distance"), modes),
      this.modeNote,
      h("p", { class: "muted small" }, `${read}Targets are ${decoding}; N = 0 is the next token. Whiskers and brackets: 95% intervals, documents resampled. Dashed level lines read no state.`),
      this.curvesHost,
      h("div", { class: "title" }, h("h3", {}, "All arms"), distances),
      this.tableHost,
    );
  }

  divergence({ layers, n_tokens: tokens, n_documents: documents }) {
    const head = ["", "logit lens", "tuned lens", "tuned \u2212 logit"];
    const rows = layers.map(([layer, logit, tuned, difference]) => h("tr", {}, h("td", {}, layer), cell(logit), cell(tuned), cell(difference, signed)));
    const note = `held-out text, ${tokens.toLocaleString("en-US")} tokens of ${documents.toLocaleString("en-US")} documents; nats per token`;
    return h(
      "section",
      {},
      h("div", { class: "pair" }, this.figures.place("divergence", "Tuned lens beside logit lens: KL to the model", note), h("div", { class: "wide" }, h("table", { class: "figures" }, h("thead", {}, h("tr", {}, head.map((label) => h("th", { scope: "col" }, label)))), h("tbody", {}, rows)))),
    );
  }

  show() {
    const { grids, table } = this.summary;
    if (grids.length) this.showGrid(grids[this.state.grid]);
    if (table) this.showTable(table);
  }

  showGrid(grid) {
    this.chooser.value = String(this.state.grid);
    if (this.shownGrid !== this.state.grid) {
      replace(this.gridHost, this.figures.place(`grid-${this.state.grid}`, ""));
      this.shownGrid = this.state.grid;
    }
    const { layer, at } = this.state;
    const before = grid.tokens.slice(Math.max(0, at - 8), at + 1).map((id) => chip(grid.vocabulary[id], id));
    const lines = grid.top[layer][at].map((ids, n) => h("tr", {}, h("td", {}, `N = ${n}`), ids.map((id, k) => h("td", { class: "guess" }, chip(grid.vocabulary[id], id), " ", h("span", { class: "muted" }, grid.probability[layer][at][n][k].toFixed(2))))));
    replace(
      this.cellHost,
      h("p", { class: "small" }, h("b", {}, grid.layers[layer]), h("span", { class: "muted" }, `, position ${at}, behind `), before.flatMap((one) => [one, " "])),
      h("table", { class: "figures" }, h("tbody", {}, lines)),
    );
  }

  showTable(table) {
    const { n, mode } = this.state;
    for (const button of this.buttons) {
      const change = JSON.parse(button.dataset.change);
      button.setAttribute("aria-pressed", String((change.mode ?? mode) === mode && (change.n ?? n) === n));
    }
    this.modeNote.textContent = MODES[mode];
    if (this.shownMode !== mode) {
      replace(this.curvesHost, this.figures.place(`precision-${mode}`, "Precision@1"), this.figures.place(`surprisal-${mode}`, "Surprisal: how surprising the model finds what is predicted"));
      this.shownMode = mode;
    }
    const head = ["", "layer", "precision@1", "precision@5", "precision@10", "surprisal, nats"];
    const rows = table.rows.filter((row) => row.mode === mode && row.distance === n);
    let last = "";
    const lines = rows.map((row) => {
      const arm = row.arm === last ? "" : row.arm;
      last = row.arm;
      return h("tr", {}, h("td", {}, arm), h("td", {}, row.layer ?? "\u2013"), row.figures.map((figure) => (figure ? cell(figure) : h("td", { class: "muted" }, "not defined"))));
    });
    const count = rows.length ? `${rows[0].n.toLocaleString("en-US")} held-out prefixes` : "no arm";
    replace(this.tableHost, h("p", { class: "muted small" }, count), h("table", { class: "figures" }, h("thead", {}, h("tr", {}, head.map((label) => h("th", { scope: "col" }, label)))), h("tbody", {}, lines)));
  }
}

function bestOf(table, mode, n) {
  const held = table.rows.filter((row) => row.mode === mode && row.distance === n && row.layer);
  return held.reduce((best, row) => (best === null || row.figures[0][0] > best.figures[0][0] ? row : best), null);
}

function cell([value, between], written = precise) {
  const range = between ? h("span", { class: "muted range" }, `[${written(between[0])}, ${written(between[1])}]`) : null;
  return h("td", {}, h("b", {}, written(value)), range);
}

function absent(title, reason) {
  return h("section", {}, h("h3", {}, title), h("p", { class: "muted" }, `Not measured: ${reason}.`));
}

function start() {
  const page = document.getElementById("page");
  if (!("DecompressionStream" in window)) {
    page.textContent = "This page needs a browser of 2023 or later (DecompressionStream).";
    return;
  }
  new LensPage(new EmbeddedSource());
}

start();

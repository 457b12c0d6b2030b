// The tree of a Matryoshka dictionary: features of a level, each opening to the more specific ones that fire within it.

import { h, replace } from "./dom.js";
import { chip, number, share } from "./format.js";
import { go } from "./router.js";
import { Rows } from "./rows.js";
import { SplitView } from "./split.js";
import { levelBadge } from "./table.js";

const SHARES = [
  ["", "parent on \u2265 50%"],
  ["0", "any parent"],
  ["0.25", "on \u2265 25%"],
  ["0.75", "on \u2265 75%"],
  ["0.9", "on \u2265 90%"],
];

export class TreeView extends SplitView {
  constructor(data, source) {
    super(data, source, { kind: "Tree" });
    this.lines = [];
    this.rows = new Rows((place) => this.row(this.lines[place]));
    this.rows.body.addEventListener("click", (event) => this.clicked(event));
    this.least = h("select", { class: "quiet", "aria-label": "least share of firings in the parent", onchange: () => go({ ...this.route, least: this.least.value }, { replace: true }) }, SHARES.map(([value, label]) => h("option", { value }, label)));
    this.roots = h("div", { class: "level-choice" });
    this.summary = h("p", { class: "muted explained" });
    replace(this.tools, this.roots);
    this.list.append(this.summary, h("div", { class: "table tree-table", role: "treegrid", "aria-label": "tree of features" }, head(), this.rows.element));
  }

  order() {
    return this.lines.map((line) => line.id);
  }

  column(key) {
    return this.data.table.columns.find((column) => column.key === key)?.values;
  }

  async show(route) {
    this.route = route;
    this.begin(route);
    this.relations ??= await this.source.relations();
    const level = Number(route.level) || 1;
    this.least.value = SHARES.some(([value]) => value === route.least) ? route.least : "";
    this.share = route.least === "" ? this.relations.least : Number(route.least);
    this.opened = new Set(route.open.split(".").filter(Boolean).map(Number));
    this.drawLevels(level);
    this.lines = this.flatten(this.ofLevel(level), 0);
    const id = route.id ?? this.lines[0]?.id ?? null;
    this.selected = id;
    this.rows.show(this.lines.length);
    const place = this.lines.findIndex((line) => line.id === id);
    if (place >= 0 && id !== this.current) this.rows.reveal(place);
    await this.open(id);
  }

  // Features of a level, those with most below them first.
  ofLevel(level) {
    const levels = this.column("level");
    const density = this.column("density");
    const ids = [...levels.keys()].filter((id) => levels[id] === level && density[id] > 0);
    const n = new Map(ids.map((id) => [id, this.relations.below(id, this.share).length]));
    return ids.sort((a, b) => n.get(b) - n.get(a) || density[b] - density[a]);
  }

  flatten(ids, depth) {
    return ids.flatMap((id) => {
      const line = { id, depth, edge: this.relations.above(id, this.share), children: this.relations.below(id, this.share) };
      if (!this.opened.has(id) || line.children.length === 0) return [line];
      return [line, ...this.flatten(line.children.map((edge) => edge.child), depth + 1)];
    });
  }

  drawLevels(chosen) {
    const { levels } = this.data.summary.features;
    const button = ({ level }) =>
      h("button", { class: "quiet", title: `features of level ${level} and what is below them`, "aria-pressed": String(level === chosen), onclick: () => go({ ...this.route, id: null, level: String(level), open: "" }, { replace: true }) }, levelBadge(level, this.data.step));
    replace(this.roots, h("span", { class: "muted" }, "From level"), levels.map(button), h("button", { class: "quiet", onclick: () => this.openAll(), title: "open every feature in the list by one level" }, "Open all"), this.least);
    const own = levels.find(({ level }) => level === chosen) ?? levels[0];
    const ids = Array.from({ length: own.n }, (_, index) => own.first + index);
    const parents = ids.filter((id) => this.relations.below(id, this.share).length).length;
    const kept = ids.filter((id) => this.relations.above(id, this.share)).length;
    const written = (value) => value.toLocaleString("en-US");
    const above = chosen === 1 ? "" : `, ${written(kept)} with a parent`;
    const percent = `${Math.round(100 * this.share)}%`;
    const rule = this.share > 0 ? `It must fire on at least ${percent} of its child's firings.` : "However weak.";
    replace(this.summary, `${written(own.n)} features of level ${chosen}: ${written(parents)} with children${above}. A feature's parent is the one of earlier levels that its firing implies most. ${rule}`);
  }

  openAll() {
    const open = this.lines.filter((line) => line.children.length).map((line) => line.id);
    go({ ...this.route, open: [...new Set([...this.opened, ...open])].join(".") }, { replace: true });
  }

  clicked(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const id = Number(row.dataset.feature);
    if (event.target.closest(".twist")) this.twist(id);
    else this.select(id);
  }

  twist(id, open = !this.opened.has(id)) {
    const opened = new Set(this.opened);
    if (open) opened.add(id);
    else opened.delete(id);
    go({ ...this.route, open: [...opened].join(".") }, { replace: true });
  }

  // Keys: right opens a feature, left closes it.
  unfold(open) {
    if (this.selected !== null) this.twist(this.selected, open);
  }

  row({ id, depth, edge, children }) {
    const chosen = id === this.selected;
    const open = this.opened.has(id);
    const density = this.column("density")[id];
    return h(
      "div",
      { class: chosen ? "row chosen" : "row", role: "row", "data-feature": id, "aria-level": depth + 1, "aria-expanded": children.length ? String(open) : null, "aria-selected": String(chosen) },
      h(
        "div",
        { class: "cell branch", role: "cell", style: { "--depth": depth } },
        children.length ? h("button", { class: "twist", tabindex: "-1", "aria-label": open ? "close" : "open" }, open ? "\u25be" : "\u25b8") : h("span", { class: "twist" }),
        levelBadge(this.column("level")[id], this.data.step),
        h("span", { class: "number" }, String(id)),
        h("span", { class: "cell tokens" }, this.column("fires_on")[id].map((token) => chip(this.data.vocabulary.text(token), token))),
      ),
      h("div", { class: "cell number muted", role: "cell" }, children.length ? String(children.length) : ""),
      h("div", { class: "cell share", role: "cell" }, edge ? share(edge.parentGivenChild) : ""),
      h("div", { class: "cell number", role: "cell" }, edge ? number(edge.cosine) : ""),
      h("div", { class: "cell share", role: "cell" }, share(density)),
    );
  }
}

function head() {
  const cell = (label, title, kind) => h("div", { class: `cell ${kind}`, role: "columnheader", title }, label);
  return h(
    "div",
    { class: "head-frame" },
    h(
      "div",
      { class: "row head", role: "row" },
      cell("feature", "level, number, commonest tokens", "branch"),
      cell("children", "features of later levels that it is a parent of", "number"),
      cell("in parent", "share of its firings on which the parent above it fires too", "share"),
      cell("cosine", "between its decoder direction and the parent's", "number"),
      cell("density", "share of tokens on which it fires", "share"),
    ),
  );
}

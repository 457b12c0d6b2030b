// The feature list: chosen columns, sorted by a click on a head.

import { h, replace } from "./dom.js";
import { chip, number, share } from "./format.js";
import { Rows } from "./rows.js";

const LOWEST_DECADE = -5;
// Between columns, and beside the outer ones, as in table.css.
const GAP = 10;
const PADDING = 14;
// Least width, and whether a column takes a part of what is left over.
const WIDTHS = { level: ["36px"], tokens: ["88px", "1fr"], text: ["128px", "1fr"], share: ["56px"], number: ["44px"], count: ["56px"] };
// A density's is told by the style sheet: in a narrow list it has no bar.
const OWN_WIDTHS = { feature: ["50px"], density: ["var(--density)"], token_auc: ["74px"], bigram_auc: ["80px"], top_token: ["64px"], lift: ["62px"], neighbour: ["96px"] };


const cells = {
  level: (value, { step }) => levelBadge(value, step),
  tokens: (value, { vocabulary }) => value.map((id) => chip(vocabulary.text(id), id)),
  text: (value) => value,
  number: (value) => number(value),
  count: (value) => value.toLocaleString("en-US"),
  share: (value, { key }) => (key === "density" ? [bar(value), value ? share(value) : h("span", { class: "muted" }, "dead")] : share(value)),
};

export function levelBadge(level, step) {
  return h("span", { class: "level", "data-step": step(level), title: `level ${level}` }, String(level));
}

// Length by order of magnitude: densities span five decades.
function bar(value) {
  const length = value > 0 ? Math.max(0.06, 1 - Math.log10(value) / LOWEST_DECADE) : 0;
  return h("span", { class: "bar", style: { "--length": length.toFixed(3) } });
}

export class FeatureTable {
  constructor({ vocabulary, step, onSelect, onSort }) {
    Object.assign(this, { vocabulary, step, onSelect, onSort, columns: [], order: [], selected: null });
    this.head = h("div", { class: "row head", role: "row" });
    this.headFrame = h("div", { class: "head-frame" }, this.head);
    this.rows = new Rows((place) => this.row(place), { onScroll: () => (this.headFrame.scrollLeft = this.rows.element.scrollLeft) });
    this.element = h("div", { class: "table", role: "table", "aria-label": "features" }, this.headFrame, this.rows.element);
    this.rows.body.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.onSelect(Number(row.dataset.feature));
    });
  }

  show(order, sort, columns) {
    Object.assign(this, { order, columns });
    const widths = [{ key: "feature" }, ...columns].map(({ key, kind }) => OWN_WIDTHS[key] ?? WIDTHS[kind]);
    this.element.style.setProperty("--columns", widths.map(([least, part]) => (part ? `minmax(${least}, ${part})` : least)).join(" "));
    this.element.style.setProperty("--least", `calc(${widths.map(([least]) => least).join(" + ")} + ${GAP * (widths.length - 1) + PADDING}px)`);
    this.element.setAttribute("aria-rowcount", order.length);
    this.drawHead(sort);
    this.rows.show(order.length);
  }

  select(feature) {
    if (feature === this.selected) return;
    this.selected = feature;
    const place = this.order.indexOf(feature);
    if (place >= 0) this.rows.reveal(place);
    this.rows.redraw();
  }

  drawHead(sort) {
    const head = [{ key: "feature", label: "feature", kind: "number", meaning: "index in the dictionary" }, ...this.columns];
    replace(this.head, head.map((column) => this.headCell(column, sort)));
  }

  headCell(column, sort) {
    const current = (sort.replace("-", "") || "feature") === column.key;
    const direction = sort.startsWith("-") ? "descending" : "ascending";
    const label = h("button", { class: "sort", title: column.meaning, onclick: () => this.onSort(nextSort(column, current, sort)) }, column.label);
    if (current && sort) label.append(h("span", { class: "direction" }, direction === "ascending" ? "\u2191" : "\u2193"));
    return h("div", { class: `cell ${column.kind} ${column.key}`, role: "columnheader", "aria-sort": current ? direction : "none" }, label);
  }

  row(place) {
    const feature = this.order[place];
    const chosen = feature === this.selected;
    return h(
      "div",
      { class: chosen ? "row chosen" : "row", role: "row", "aria-rowindex": place + 1, "aria-selected": String(chosen), "data-feature": feature },
      h("div", { class: "cell number feature", role: "cell" }, String(feature)),
      this.columns.map((column) => h("div", { class: `cell ${column.kind} ${column.key}`, role: "cell" }, this.cell(column, feature))),
    );
  }

  cell(column, feature) {
    const value = column.values[feature];
    if (value === null) return h("span", { class: "muted", title: "not measured" }, "\u2013");
    return cells[column.kind](value, { vocabulary: this.vocabulary, key: column.key, step: this.step });
  }
}

// Quantities begin with the largest, names and numbers of features with the first; a second click turns round.
function nextSort({ key, kind }, current, sort) {
  if (current) return sort.startsWith("-") ? key : `-${key}`;
  return ["share", "number", "count"].includes(kind) && key !== "feature" ? `-${key}` : key;
}

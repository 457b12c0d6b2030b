// The feature list. Only the rows in sight exist, so 65,000 features scroll like 60.

import { h, replace } from "./dom.js";
import { chip, number, share } from "./format.js";

const ROW = 29;
const SPARE = 10;
const LOWEST_DECADE = -5;

const cells = {
  level: (value, context) => h("span", { class: "level", "data-step": context.step(value) }, String(value)),
  tokens: (value, context) => value.map((id) => chip(context.vocabulary.text(id), id)),
  number: (value) => (value ? number(value) : "\u2013"),
  share: (value, context) =>
    context.key === "density" ? [bar(value), value ? share(value) : h("span", { class: "muted" }, "dead")] : value ? share(value) : "\u2013",
};

// Length by order of magnitude: densities span five decades.
function bar(value) {
  const length = value > 0 ? Math.max(0.06, 1 - Math.log10(value) / LOWEST_DECADE) : 0;
  return h("span", { class: "bar", style: { "--length": length.toFixed(3) } });
}

export class FeatureTable {
  constructor({ columns, vocabulary, step, onSelect, onSort }) {
    Object.assign(this, { columns, vocabulary, step, onSelect, onSort });
    this.order = [];
    this.selected = null;
    this.head = h("div", { class: "row head", role: "row" });
    this.rows = h("div", { class: "rows", role: "rowgroup" });
    this.spacer = h("div", { class: "spacer" }, this.rows);
    this.scroller = h("div", { class: "scroller", onscroll: () => this.draw() }, this.spacer);
    const template = ["feature", ...columns.map((column) => column.key)].map((key) => `var(--column-${key}, 64px)`).join(" ");
    this.element = h(
      "div",
      { class: "table", role: "table", "aria-label": "features", style: { "--columns": template } },
      this.head,
      this.scroller,
    );
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.onSelect(Number(row.dataset.feature));
    });
    new ResizeObserver(() => this.draw()).observe(this.scroller);
  }

  show(order, sort) {
    this.order = order;
    this.drawHead(sort);
    this.spacer.style.height = `${order.length * ROW}px`;
    this.element.setAttribute("aria-rowcount", order.length);
    this.first = null;
    this.draw();
  }

  select(feature) {
    if (feature === this.selected) return;
    this.selected = feature;
    const place = this.order.indexOf(feature);
    if (place >= 0) this.reveal(place);
    this.first = null;
    this.draw();
  }

  reveal(place) {
    const { scrollTop, clientHeight } = this.scroller;
    const top = place * ROW;
    if (top < scrollTop || top + ROW > scrollTop + clientHeight) this.scroller.scrollTop = top - clientHeight / 2 + ROW / 2;
  }

  drawHead(sort) {
    const head = [{ key: "feature", label: "feature", kind: "number", meaning: "index in the dictionary" }, ...this.columns];
    replace(this.head, head.map((column) => this.headCell(column, sort)));
  }

  headCell(column, sort) {
    const current = (sort.replace("-", "") || "feature") === column.key;
    const direction = sort.startsWith("-") ? "descending" : "ascending";
    const next = current ? (sort.startsWith("-") ? column.key : `-${column.key}`) : column.kind === "share" || column.kind === "number" ? `-${column.key}` : column.key;
    const label = h("button", { class: "sort", title: column.meaning, onclick: () => this.onSort(column.key === "feature" && !current ? "feature" : next) }, column.label);
    if (current && sort) label.append(h("span", { class: "direction" }, direction === "ascending" ? "\u2191" : "\u2193"));
    return h("div", { class: `cell ${column.kind}`, role: "columnheader", "aria-sort": current ? direction : "none" }, label);
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const n = Math.ceil(this.scroller.clientHeight / ROW) + 2 * SPARE;
    if (first === this.first && n === this.n) return;
    Object.assign(this, { first, n });
    this.rows.style.transform = `translateY(${first * ROW}px)`;
    replace(this.rows, this.order.slice(first, first + n).map((feature, index) => this.row(feature, first + index)));
  }

  row(feature, index) {
    const chosen = feature === this.selected;
    return h(
      "div",
      { class: chosen ? "row chosen" : "row", role: "row", "aria-rowindex": index + 1, "aria-selected": String(chosen), "data-feature": feature },
      h("div", { class: "cell number", role: "cell" }, String(feature)),
      this.columns.map((column) =>
        h("div", { class: `cell ${column.kind} ${column.key}`, role: "cell" }, this.cell(column, feature)),
      ),
    );
  }

  cell(column, feature) {
    const value = column.values[feature];
    const context = { vocabulary: this.vocabulary, key: column.key, step: this.step };
    return value === null ? "\u2013" : cells[column.kind](value, context);
  }
}

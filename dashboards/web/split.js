// A list on the left, one feature on the right. Below 1,000 px the list is a drawer.

import { h, replace } from "./dom.js";
import { FEATURE_TABS, featureView } from "./feature.js";
import { go } from "./router.js";

export class SplitView {
  constructor(data, source, { kind }) {
    Object.assign(this, { data, source, wide: false, route: null, shown: "" });
    this.pane = h("div", { class: "pane" });
    this.tools = h("div", { class: "tools" });
    this.close = h("button", { class: "quiet", title: "close (Escape)", onclick: () => this.dismiss() }, "Close");
    this.list = h("div", { class: "list" }, h("div", { class: "drawer-head" }, h("h3", {}, kind), this.close), this.tools);
    this.toggle = h("button", { class: "quiet drawer-toggle", "aria-expanded": "false", onclick: () => this.summon() }, kind);
    this.object = h("div", { class: "object" }, this.toggle, this.pane);
    this.shade = h("div", { class: "shade", onclick: () => this.dismiss() });
    this.element = h("div", { class: `split split-${kind.toLowerCase()}` }, this.list, this.shade, this.object);
  }

  // On a narrow screen a view without a chosen feature begins with its list.
  begin(route) {
    if (!this.begun && route.id === null && matchMedia("(max-width: 1000px)").matches) this.drawer(true);
    this.begun = true;
  }

  summon() {
    this.drawer(true);
    this.close.focus();
  }

  dismiss() {
    if (!this.element.classList.contains("open")) return;
    this.drawer(false);
    this.toggle.focus();
  }

  // Below the header, whose tabs stay in reach.
  drawer(open) {
    const head = document.querySelector("header")?.getBoundingClientRect().bottom ?? 0;
    if (open) this.element.style.setProperty("--drawer-top", `${Math.max(0, head)}px`);
    this.element.classList.toggle("open", open);
    this.toggle.setAttribute("aria-expanded", String(open));
  }

  select(id) {
    this.drawer(false);
    go({ ...this.route, id }, { replace: true });
  }

  // Keys: the next feature of this view's order, the next tab of the feature.
  step(by) {
    const order = this.order();
    if (order.length === 0) return;
    const place = order.indexOf(this.route.id ?? this.current);
    this.select(order[Math.max(0, Math.min(order.length - 1, place + by))]);
  }

  turn(by) {
    const place = Math.max(0, FEATURE_TABS.findIndex(({ key }) => key === this.route.view));
    const { key } = FEATURE_TABS[(place + by + FEATURE_TABS.length) % FEATURE_TABS.length];
    go({ ...this.route, id: this.route.id ?? this.current, view: key }, { replace: true });
  }

  widen() {
    this.wide = !this.wide;
    this.open(this.current);
  }

  async open(id) {
    this.current = id;
    if (id === null || id >= this.data.table.n) {
      replace(this.pane, h("p", { class: "muted" }, id === null ? "No feature matches the filter." : `There is no feature ${id}.`));
      return;
    }
    const state = `${id} ${this.route.view} ${this.wide}`;
    if (this.shown === state && this.pane.firstElementChild) return;
    const same = this.shown.startsWith(`${id} `);
    this.shown = state;
    const parts = Promise.all([this.source.feature(id), this.source.relations()]);
    // What could not be had is not shown.
    parts.catch(() => (this.shown = ""));
    const [feature, relations] = await parts;
    if (this.shown !== state) return;
    const onWiden = () => this.widen();
    replace(this.pane, featureView(feature, { ...this.data, relations }, { route: { ...this.route, id }, wide: this.wide, onWiden }));
    if (!same) this.object.scrollTop = 0;
  }
}

// The two pages of features: the list with one feature beside it, and the sample drawn by seed, all shown.

import { h, replace } from "./dom.js";
import { featureView } from "./feature.js";
import { parseFilter, sorted } from "./filter.js";
import { address, go } from "./router.js";
import { FeatureTable } from "./table.js";

const SAMPLE_CONTEXTS = 6;

export function levelStep(levels) {
  // Five blues: n levels take evenly spaced ones, as dashboards/theme.py does for figures.
  return (level) => (levels.length < 2 ? 2 : Math.round(((level - 1) * 4) / (levels.length - 1)));
}

class SplitView {
  constructor(data, source) {
    Object.assign(this, { data, source, wide: false, route: null });
    const { columns } = data.table;
    this.list = new FeatureTable({
      columns: columns.filter((column) => column.listed),
      vocabulary: data.vocabulary,
      step: levelStep(data.summary.features.levels),
      onSelect: (id) => this.select(id),
      onSort: (sort) => go({ ...this.route, sort }, { replace: true }),
    });
    this.pane = h("div", { class: "pane", onclick: () => this.element.classList.remove("open") });
    this.toggle = h("button", { class: "quiet drawer-toggle", onclick: () => this.element.classList.toggle("open") }, "List");
    this.tools = h("div", { class: "tools" });
    this.element = h(
      "div",
      { class: "split" },
      h("div", { class: "list" }, this.tools, this.list.element),
      h("div", { class: "object" }, this.toggle, this.pane),
    );
  }

  select(id) {
    this.element.classList.remove("open");
    go({ ...this.route, id }, { replace: true });
  }

  step(by) {
    const { order } = this.list;
    if (order.length === 0) return;
    const place = order.indexOf(this.list.selected);
    this.select(order[Math.max(0, Math.min(order.length - 1, place + by))]);
  }
}

export class FeaturesView extends SplitView {
  constructor(data, source) {
    super(data, source);
    this.search = h("input", {
      class: "search",
      placeholder: "density > 0.1% and level <= 3, or a token",
      "aria-label": "filter features",
      spellcheck: "false",
      oninput: () => go({ ...this.route, query: this.search.value }, { replace: true }),
    });
    this.count = h("span", { class: "muted count", role: "status" });
    replace(this.tools, this.search, this.count);
  }

  async show(route) {
    this.route = route;
    if (this.search.value !== route.query) this.search.value = route.query;
    this.filter(route);
    const id = route.id ?? this.list.order[0] ?? null;
    this.list.select(id);
    if (id === null || id >= this.data.table.n) {
      replace(this.pane, h("p", { class: "muted" }, id === null ? "No feature matches the filter." : `There is no feature ${id}.`));
      return;
    }
    if (this.shown !== id) await this.open(id);
  }

  filter({ query, sort }) {
    const asked = `${query}\n${sort}`;
    if (asked === this.asked) return;
    this.asked = asked;
    const { columns, n } = this.data.table;
    const all = Array.from({ length: n }, (_, feature) => feature);
    try {
      const accepts = parseFilter(query, columns, this.data.vocabulary);
      const order = sorted(all.filter(accepts), sort, columns);
      this.list.show(order, sort);
      this.count.textContent = order.length === n ? `${n.toLocaleString("en-US")} features` : `${order.length.toLocaleString("en-US")} of ${n.toLocaleString("en-US")}`;
      this.search.removeAttribute("aria-invalid");
    } catch (error) {
      this.search.setAttribute("aria-invalid", "true");
      this.count.textContent = error.message;
    }
  }

  async open(id) {
    this.shown = id;
    const feature = await this.source.feature(id);
    if (this.shown !== id) return;
    const drawn = featureView(feature, this.data, {
      wide: this.wide,
      onWiden: () => {
        this.wide = !this.wide;
        this.open(id);
      },
    });
    replace(this.pane, drawn);
    this.pane.parentElement.scrollTop = 0;
  }

  widen() {
    this.wide = !this.wide;
    if (this.shown !== undefined) this.open(this.shown);
  }
}

export class SampleView extends SplitView {
  constructor(data, source) {
    super(data, source);
    const { seed, ids, n_from: from } = data.summary.features.sample;
    this.ids = ids;
    const words = `${ids.length} features drawn with seed ${seed} from the ${from.toLocaleString("en-US")} that fire, in the order drawn. All are shown.`;
    replace(this.tools, h("p", { class: "muted explained" }, words));
    this.list.show(ids, "");
  }

  async show(route) {
    this.route = route;
    if (route.sort !== this.sort) {
      this.sort = route.sort;
      this.list.show(route.sort ? sorted(this.ids, route.sort, this.data.table.columns) : this.ids, route.sort);
      await this.fill();
    }
    const id = this.ids.includes(route.id) ? route.id : this.list.order[0];
    this.list.select(id);
    if (route.id !== null) document.getElementById(`feature-${id}`)?.scrollIntoView({ block: "start" });
  }

  async fill() {
    const features = await Promise.all(this.list.order.map((id) => this.source.feature(id)));
    const cards = features.map((feature) => {
      const href = address({ tab: "features", id: feature.id });
      return featureView(feature, this.data, { limit: SAMPLE_CONTEXTS, href, wide: this.wide });
    });
    replace(this.pane, cards);
  }

  async widen() {
    this.wide = !this.wide;
    await this.fill();
  }
}

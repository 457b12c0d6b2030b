// The decoder's map: a point per living feature, those with like directions near each other. Drawn on one canvas.

import { h, replace } from "./dom.js";
import { queryLine } from "./features.js";
import { chip, share } from "./format.js";
import { QueryError, misunderstood, parseQuery } from "./query.js";
import { go } from "./router.js";
import { Scatter } from "./scatter.js";
import { SplitView } from "./split.js";
import { levelBadge } from "./table.js";

export class MapView extends SplitView {
  constructor(data, source, theme) {
    super(data, source, { kind: "Map" });
    this.search = queryLine((query) => go({ ...this.route, query }, { replace: true }));
    this.count = h("span", { class: "muted count", role: "status" });
    this.caption = h("p", { class: "muted explained" });
    this.canvas = h("canvas", { class: "map-canvas", role: "img", "aria-label": "map of decoder directions", tabindex: "0" });
    this.tip = h("div", { class: "tip", hidden: true });
    const frame = h("div", { class: "map-frame" }, this.canvas, this.legend());
    replace(this.tools, this.search, h("button", { class: "quiet", title: "the whole map (0)", onclick: () => this.whole() }, "Whole map"));
    this.list.append(h("div", { class: "counted" }, this.count), frame, this.caption);
    document.body.append(this.tip);
    this.scatter = new Scatter(this.canvas, {
      onHover: (id, event) => this.hover(id, event),
      onChoose: (id) => this.select(id),
      onMove: (zoom) => go({ ...this.route, zoom }, { replace: true }),
    });
    theme.onChange(() => this.scatter.recolour());
  }

  order() {
    return this.matching ?? [];
  }

  column(key) {
    return this.data.table.columns.find((column) => column.key === key)?.values;
  }

  legend() {
    const { levels } = this.data.summary.features;
    if (levels.length < 2) return null;
    return h("div", { class: "map-legend" }, levels.map(({ level }) => [levelBadge(level, this.data.step), level === 1 ? " general" : level === levels.length ? " specific" : ""]));
  }

  async show(route) {
    this.route = route;
    this.begin(route);
    if (!this.places) await this.load();
    if (this.search.value !== route.query) this.search.value = route.query;
    this.filter(route.query);
    this.scatter.look(route.zoom);
    const id = route.id ?? this.matching[0] ?? null;
    this.scatter.select(id, []);
    await this.open(id);
    const { neighbours } = id === null || id >= this.data.table.n ? {} : await this.source.feature(id);
    if (this.current === id) this.scatter.select(id, (neighbours ?? []).map(([other]) => other));
  }

  async load() {
    this.places = await this.source.map();
    const level = this.column("level");
    const density = this.column("density");
    const points = this.places.x.flatMap((x, id) => (x === null ? [] : [{ id, x, y: this.places.y[id], step: level ? this.data.step(level[id]) : 2, size: size(density[id]) }]));
    this.scatter.show(points);
    replace(this.caption, explained(this.places, points.length));
  }

  filter(query) {
    const { table, vocabulary, tokenIndex } = this.data;
    this.matching = this.scatter.points.map(({ id }) => id);
    try {
      const accepts = parseQuery(query, table.columns, vocabulary, tokenIndex);
      this.matching = this.matching.filter(accepts);
      this.count.classList.remove("misunderstood");
      this.scatter.highlight(query.trim() === "" ? null : new Set(this.matching));
      this.count.textContent = query.trim() === "" ? `${this.matching.length.toLocaleString("en-US")} features` : `${this.matching.length.toLocaleString("en-US")} marked`;
      this.search.removeAttribute("aria-invalid");
    } catch (error) {
      if (!(error instanceof QueryError)) throw error;
      this.search.setAttribute("aria-invalid", "true");
      misunderstood(error, this.count);
      this.scatter.highlight(null);
    }
  }

  whole() {
    go({ ...this.route, zoom: "" }, { replace: true });
  }

  hover(id, event) {
    this.tip.hidden = id === null;
    if (id === null) return;
    const { vocabulary } = this.data;
    const tokens = (key) => this.column(key)[id].map((token) => chip(vocabulary.text(token), token));
    const level = this.column("level");
    replace(
      this.tip,
      h("div", {}, h("b", {}, `#${id} `, this.column("label")?.[id] ?? ""), level ? levelBadge(level[id], this.data.step) : null),
      h("div", {}, h("span", { class: "muted" }, "fires on"), h("span", {}, tokens("fires_on"))),
      h("div", {}, h("span", { class: "muted" }, "raises"), h("span", {}, tokens("raises"))),
      h("div", {}, h("span", { class: "muted" }, "density"), h("b", {}, share(this.column("density")[id]))),
    );
    this.tip.style.left = `${Math.min(event.clientX + 14, innerWidth - this.tip.offsetWidth - 8)}px`;
    this.tip.style.top = `${Math.min(event.clientY + 14, innerHeight - this.tip.offsetHeight - 8)}px`;
  }
}

// Area by order of magnitude of the density.
function size(density) {
  return 1.6 + 0.75 * Math.max(0, 4.5 + Math.log10(Math.max(density, 1e-6)));
}

function explained({ kept, kept_by_pca: pca, kept_by_chance: chance }, n) {
  const percent = (value) => (value === null ? "not measured" : share(value));
  return `Decoder directions of the ${n.toLocaleString("en-US")} features that fire, laid out by t-SNE on cosine distance (fixed seed). Of a feature's ten nearest directions the map keeps ${percent(kept)} among the ten nearest points (principal components ${percent(pca)}, chance ${percent(chance)}): near points are alike, far ones need not be unlike. Larger points fire more often; lines lead from the chosen feature to its ten nearest. Drag to move, scroll to zoom.`;
}

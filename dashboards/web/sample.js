// The sample: features drawn by seed, all shown, so that nobody picked them.

import { h, replace } from "./dom.js";
import { featureCard } from "./feature.js";
import { number } from "./format.js";
import { sorted } from "./query.js";
import { address, go } from "./router.js";
import { SplitView } from "./split.js";
import { FeatureTable } from "./table.js";

const CONTEXTS = 6;

export class SampleView extends SplitView {
  constructor(data, source) {
    super(data, source, { kind: "List" });
    this.ids = data.summary.features.sample.ids;
    this.table = new FeatureTable({
      vocabulary: data.vocabulary,
      step: data.step,
      onSelect: (id) => this.select(id),
      onSort: (sort) => go({ ...this.route, sort }, { replace: true }),
    });
    replace(this.tools, h("p", { class: "muted explained" }, this.words()));
    this.list.append(this.table.element);
  }

  words() {
    const { seed, ids, n_from: from } = this.data.summary.features.sample;
    const aucs = this.column("detection_auc")?.values ?? [];
    const measured = ids.map((id) => aucs[id] ?? null).filter((auc) => auc !== null).sort((a, b) => a - b);
    const middle = measured.length ? (measured[(measured.length - 1) >> 1] + measured[measured.length >> 1]) / 2 : null;
    const auc = middle === null ? "Detection AUC: not measured." : `Median detection AUC ${number(middle)} (${measured.length} measured).`;
    return `${ids.length} features drawn with seed ${seed} from the ${from.toLocaleString("en-US")} that fire, in the order drawn. All are shown. ${auc}`;
  }

  column(key) {
    return this.data.table.columns.find((column) => column.key === key);
  }

  order() {
    return this.table.order;
  }

  async show(route) {
    this.route = route;
    if (route.sort !== this.sort) {
      this.sort = route.sort;
      const { columns } = this.data.table;
      this.table.show(route.sort ? sorted(this.ids, route.sort, columns) : this.ids, route.sort, columns.filter((column) => column.listed));
      const filled = this.fill();
      filled.catch(() => (this.sort = null));
      await filled;
    }
    const id = this.ids.includes(route.id) ? route.id : this.table.order[0];
    this.current = id;
    this.table.select(id);
    if (route.id !== null) document.getElementById(`feature-${id}`)?.scrollIntoView({ block: "start" });
  }

  async fill() {
    const [relations, ...features] = await Promise.all([this.source.relations(), ...this.order().map((id) => this.source.feature(id))]);
    const cards = features.map((feature) => featureCard(feature, { ...this.data, relations }, { limit: CONTEXTS, href: address({ tab: "features", id: feature.id }), wide: this.wide }));
    replace(this.pane, cards);
  }

  async widen() {
    this.wide = !this.wide;
    await this.fill();
  }
}

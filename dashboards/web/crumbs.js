// Where a feature stands among the levels: its parents before it, its children after it.

import { h } from "./dom.js";
import { featureLink } from "./numbers.js";
import { address } from "./router.js";
import { levelBadge } from "./table.js";

const CHILDREN = 6;

export function crumbs(id, level, data) {
  const { levels } = data.summary.features;
  if (level === null || levels.length < 2) return null;
  if (!data.relations) return h("p", { class: "crumb muted" }, place(level, levels), " \u00b7 parents and children: not measured");
  const path = data.relations.ancestry(id);
  const children = data.relations.below(id);
  const levelOf = (feature) => data.table.columns.find((column) => column.key === "level").values[feature];
  const step = (feature) => [levelBadge(levelOf(feature), data.step), " ", link(feature, data), h("span", { class: "muted" }, " \u203a ")];
  return h(
    "p",
    { class: "crumb" },
    path.map(step),
    levelBadge(level, data.step),
    h("span", { class: "muted" }, ` ${place(level, levels)}`, path.length || level === 1 ? "" : ", no parent"),
    h("span", { class: "muted" }, children.length ? " \u203a children: " : level === levels.length ? "" : " \u203a no children"),
    children.slice(0, CHILDREN).map(({ child }, index) => [index ? ", " : "", link(child, data)]),
    children.length > CHILDREN ? h("a", { href: address({ tab: "tree", id, open: String(id), level: String(level) }) }, ` and ${children.length - CHILDREN} more`) : null,
  );
}

function link(feature, data) {
  return featureLink(feature, data, address({ tab: "features", id: feature }), { chips: 1 });
}

function place(level, levels) {
  const own = levels.find((one) => one.level === level);
  const last = level === levels.length ? ", the most specific" : level === 1 ? ", the most general" : "";
  return `level ${level} of ${levels.length} (features ${own.first.toLocaleString("en-US")} to ${(own.first + own.n - 1).toLocaleString("en-US")}${last})`;
}

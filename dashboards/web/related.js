// Other features that belong to this one: fired together, or written in a like direction.

import { h } from "./dom.js";
import { number, share } from "./format.js";
import { featureLink } from "./numbers.js";
import { address } from "./router.js";
import { levelBadge } from "./table.js";

const not = "Not measured: the run's features were collected without it.";

export function cofiring(feature, data) {
  if (!feature.cofiring) return h("p", { class: "muted unmeasured" }, not);
  if (feature.cofiring.length === 0) return h("p", { class: "muted unmeasured" }, "No other feature fired with it more often than chance.");
  return table(
    "features that fire on the same tokens, strongest association first, over the whole dictionary",
    ["", "feature", "fires when this fires", "this fires when it fires", "times chance", "tokens together"],
    feature.cofiring.map(([other, count, given, givenOther, lift]) => [level(other, data), link(other, data), share(given), share(givenOther), `${number(lift)}\u00d7`, count.toLocaleString("en-US")]),
  );
}

export function neighbours(feature, value, data) {
  const family = data.relations ? familyTable(feature.id, data) : null;
  if (!feature.neighbours) return h("div", {}, h("p", { class: "muted unmeasured" }, not), family);
  const rows = feature.neighbours.map(([other, cosine]) => [level(other, data), link(other, data), [bar(cosine), number(cosine)]]);
  return h("div", {}, table("decoder directions nearest to this one", ["", "feature", "cosine"], rows), family);
}

function familyTable(id, data) {
  const edges = [...data.relations.parentsOf(id).map((edge) => ["parent", edge.parent, edge]), ...data.relations.childrenOf(id).map((edge) => ["child", edge.child, edge])];
  if (edges.length === 0) return null;
  const rows = edges.map(([role, other, { cosine, parentGivenChild, childGivenParent }]) => [level(other, data), link(other, data), role, [bar(cosine), number(cosine)], share(parentGivenChild), share(childGivenParent)]);
  return table("parents and children among the levels", ["", "feature", "", "cosine", "parent fires when child fires", "child fires when parent fires"], rows);
}

function table(words, head, rows) {
  return h(
    "section",
    { class: "related" },
    h("div", { class: "subhead" }, h("span", { class: "muted" }, words)),
    h("div", { class: "sideways" }, h("table", { class: "figures" }, h("thead", {}, h("tr", {}, head.map((label) => h("th", { scope: "col" }, label)))), h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell))))))),
  );
}

function level(other, data) {
  const column = data.table.columns.find(({ key }) => key === "level");
  return column ? levelBadge(column.values[other], data.step) : null;
}

function link(other, data) {
  return featureLink(other, data, address({ tab: "features", id: other }), { chips: 3 });
}

function bar(cosine) {
  return h("span", { class: `effect-bar ${cosine < 0 ? "down" : "up"} cosine`, style: { "--length": Math.abs(cosine).toFixed(3) } });
}

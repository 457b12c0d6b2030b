// Other features that belong to this one: fired together, or written in a like direction.

import { h } from "./dom.js";
import { number, share } from "./format.js";
import { featureLink } from "./numbers.js";
import { address } from "./router.js";
import { levelBadge } from "./table.js";

const not = "Not measured: the run's features were collected without it.";
const written = (value) => value.toLocaleString("en-US");
const words = (text) => h("p", { class: "muted unmeasured" }, text);

export function cofiring(feature, data) {
  if (!feature.cofiring) return words(not);
  const { n_coactivation_tokens: counted, n_tokens: all, least_together: least } = data.summary.features;
  if (feature.cofiring.length === 0) return words(`No other feature fired with it more often than chance and on at least ${least} of the ${written(counted)} counted tokens.`);
  return table(
    `features that fire on the same tokens, strongest association first, over the whole dictionary; ${written(counted)}${counted < all ? ` of ${written(all)}` : ""} tokens counted`,
    ["", "feature", "fires when this fires", "this fires when it fires", "times chance", "tokens together"],
    feature.cofiring.map(([other, count, given, givenOther, lift]) => [level(other, data), link(other, data), share(given), share(givenOther), `${number(lift)}\u00d7`, written(count)]),
  );
}

export function neighbours(feature, value, data) {
  const family = data.relations ? familyTable(feature, data) : null;
  if (!feature.neighbours) return h("div", {}, words(not), family);
  const rows = feature.neighbours.map(([other, cosine]) => [level(other, data), link(other, data), [bar(cosine), number(cosine)]]);
  return h("div", {}, table("decoder directions nearest to this one", ["", "feature", "cosine"], rows), family);
}

// Those measured for this feature, not those that the tree shows: a child stands in the tree below one parent alone.
function familyTable({ id, children }, data) {
  const parents = data.relations.parentsOf(id).map((edge) => [edge.parent, edge.cosine, edge.parentGivenChild, edge.childGivenParent]);
  const rows = [["parent", parents], ["child", children ?? []]].flatMap(([role, others]) =>
    others.map(([other, cosine, up, down]) => [level(other, data), link(other, data), role, [bar(cosine), number(cosine)], share(up), share(down)]),
  );
  const about = "parents and children among the levels, those implied most first";
  if (rows.length) return table(children ? about : `${about}; children not measured`, ["", "feature", "", "cosine", "parent fires when child fires", "child fires when parent fires"], rows);
  return words(children ? `No feature of another level fired with it more often than chance and on at least ${data.summary.features.least_together} counted tokens.` : "Parents and children: not measured.");
}

function table(about, head, rows) {
  return h(
    "section",
    { class: "related" },
    h("div", { class: "subhead" }, h("span", { class: "muted" }, about)),
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

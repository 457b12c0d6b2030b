// The figures at the head of a feature: each with its unit and, where there is one, its interval.

import { h } from "./dom.js";
import { chip, interval, number, share } from "./format.js";

const AUC = [
  ["detection_auc", "detection AUC"],
  ["token_auc", "AUC, token alone"],
  ["bigram_auc", "AUC, two tokens"],
];

export function keyNumbers(feature, value, { table }) {
  const [low, high] = table.density_interval[feature.id];
  const range = low === null ? "interval not measured" : interval([low, high], "share");
  return h(
    "dl",
    { class: "numbers" },
    figure(share(value("density")), ["density ", h("span", { class: "nobreak" }, `(${range})`)]),
    figure(number(value("max")), "max activation"),
    figure(number(value("mean")), "mean, firing"),
    AUC.map(([key, label]) => auc(value(key), label, table.columns.find((column) => column.key === key))),
  );
}

function auc(value, label, column) {
  const meaning = column?.meaning ?? null;
  return value === null ? figure("not measured", label, { quiet: true, meaning }) : figure(number(value), label, { meaning });
}

function figure(value, label, { quiet = false, meaning = null } = {}) {
  return h("div", { title: meaning }, h("dd", { class: quiet ? "muted" : "" }, value), h("dt", {}, label));
}

// A feature in a line of text: its number, and the tokens it fires on.
export function featureLink(id, { table, vocabulary }, href, { chips = 2 } = {}) {
  const tokens = table.columns.find((column) => column.key === "fires_on").values[id].slice(0, chips);
  const label = table.columns.find((column) => column.key === "label")?.values[id];
  return h("a", { class: "feature-link", href }, h("b", {}, `#${id}`), label ? [" ", h("span", {}, label)] : tokens.flatMap((token) => [" ", chip(vocabulary.text(token), token)]));
}

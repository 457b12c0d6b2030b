// Tokens with a bar each: what a feature fires on, and whose logits it raises and lowers.

import { h } from "./dom.js";
import { chip, number, share } from "./format.js";

const SHOWN = 7;
const effect = (value) => (value > 0 ? "+" : "") + number(value);

export function effectLists(feature, vocabulary) {
  const strongest = Math.max(...[...feature.raised, ...feature.lowered].map(([, value]) => Math.abs(value)), 1e-9);
  return [
    effectList("Fires on", "neutral", feature.fires_on, feature.fires_on[0]?.[1], share, vocabulary, "share of its firings"),
    effectList("Raises", "up", feature.raised, strongest, effect, vocabulary, "logits per unit, direct path"),
    effectList("Lowers", "down", feature.lowered, strongest, effect, vocabulary, "logits per unit, direct path"),
  ];
}

function effectList(title, direction, pairs, strongest, write, vocabulary, unit) {
  const rows = pairs.slice(0, SHOWN).map(([token, value]) =>
    h(
      "div",
      { class: "effect" },
      chip(vocabulary.text(token), token),
      h("span", { class: `effect-bar ${direction}`, style: { "--length": Math.min(1, Math.abs(value) / strongest).toFixed(3) } }),
      h("span", { class: "effect-value" }, write(value)),
    ),
  );
  return h(
    "section",
    {},
    h("h3", { title: unit }, title),
    rows.length ? h("div", { class: "effects" }, rows) : h("p", { class: "muted" }, direction === "neutral" ? "nothing" : "no direct path"),
  );
}

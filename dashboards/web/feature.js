// Everything known of one feature, as a page of its own or as a card among others.

import { h } from "./dom.js";
import { chip, interval, number, share, write } from "./format.js";
import { contextList } from "./contexts.js";
import { effectLists } from "./effects.js";
import { histogram } from "./histogram.js";

export function featureView(feature, { summary, table, vocabulary }, { wide = false, limit = Infinity, href = null, onWiden = null } = {}) {
  const value = (key) => table.columns.find((column) => column.key === key)?.values[feature.id] ?? null;
  const shown = { ...feature, contexts: feature.contexts.slice(0, limit) };
  const strongest = value("max") || 1;
  return h(
    "article",
    { class: "feature", id: `feature-${feature.id}` },
    place(summary, value("level")),
    heading(feature.id, href),
    keyNumbers(feature, value, table, vocabulary),
    value("density") ? panels(feature, value("density"), summary, vocabulary) : null,
    h(
      "div",
      { class: "subhead" },
      h("h3", {}, "Top contexts"),
      h("span", { class: "muted" }, counted(shown, feature, summary)),
      onWiden ? h("button", { class: "quiet", onclick: onWiden, "aria-pressed": String(wide) }, wide ? "Narrow all" : "Widen all") : null,
    ),
    contextList(shown, strongest, vocabulary, wide),
  );
}

function heading(id, href) {
  const title = h("h2", {}, "Feature ", String(id), h("span", { class: "muted unlabelled" }, "unlabelled"));
  return href ? h("a", { class: "plain", href }, title) : title;
}

function place(summary, level) {
  if (level === null) return null;
  const { levels } = summary.features;
  const own = levels.find((one) => one.level === level);
  const words = `level ${level} of ${levels.length} \u00b7 features ${own.first.toLocaleString("en-US")} to ${(own.first + own.n - 1).toLocaleString("en-US")}`;
  return h("p", { class: "crumb muted" }, words, level === 1 ? ", the most general" : level === levels.length ? ", the most specific" : "");
}

function counted(shown, feature, summary) {
  const n = shown.contexts.length;
  const of = feature.contexts.length > n ? ` of ${feature.contexts.length}` : "";
  return `${n}${of}, strongest first, from ${summary.features.n_tokens.toLocaleString("en-US")} tokens`;
}

function keyNumbers(feature, value, table, vocabulary) {
  const density = value("density");
  if (!density) return h("p", { class: "muted" }, "Dead: it never fired on the text looked at.");
  const [low, high] = table.density_interval[feature.id];
  const [commonest] = feature.fires_on;
  const range = low === null ? "interval not measured" : interval([low, high], "share");
  return h(
    "dl",
    { class: "numbers" },
    figure(share(density), ["density ", h("span", { class: "nobreak" }, `(${range})`)]),
    figure(number(value("max")), "max activation"),
    figure(number(value("mean")), "mean, firing"),
    commonest ? figure(share(commonest[1]), ["of firings on ", chip(vocabulary.text(commonest[0]), commonest[0])]) : null,
    value("auc") === null ? figure("not measured", "detection AUC", true) : figure(write(value("auc"), "number"), "detection AUC"),
  );
}

function figure(value, label, quiet = false) {
  return h("div", {}, h("dd", { class: quiet ? "muted" : "" }, value), h("dt", {}, label));
}

function panels(feature, density, summary, vocabulary) {
  return h(
    "div",
    { class: "panels" },
    h(
      "section",
      {},
      h("h3", {}, "Activation ", h("span", { class: "muted light" }, `(zero on ${share(1 - density)})`)),
      histogram(feature.histogram, summary.features.bin_edges),
    ),
    effectLists(feature, vocabulary),
  );
}

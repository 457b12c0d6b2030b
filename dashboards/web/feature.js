// Everything known of one feature, as a page of its own or as a card among others.

import { contextList } from "./contexts.js";
import { crumbs } from "./crumbs.js";
import { h } from "./dom.js";
import { effectLists } from "./effects.js";
import { exampleTab } from "./examples.js";
import { share } from "./format.js";
import { histogram } from "./histogram.js";
import { keyNumbers } from "./numbers.js";
import { address } from "./router.js";

// Tabs of a feature, by their part of the address; the first has none.
export const FEATURE_TABS = [
  { key: "", label: "Top" },
  { key: "quantiles", label: "Quantiles" },
  { key: "random", label: "Random firing" },
  { key: "near", label: "Near threshold" },
  { key: "cofiring", label: "Co-firing" },
  { key: "neighbours", label: "Neighbours" },
];

export function featureView(feature, data, { route, wide, onWiden }) {
  const value = valuesOf(feature, data.table);
  const view = FEATURE_TABS.find(({ key }) => key === route.view) ?? FEATURE_TABS[0];
  return h(
    "article",
    { class: "feature", id: `feature-${feature.id}` },
    head(feature, value, data),
    h("nav", { class: "feature-tabs", "aria-label": "what is shown of the feature" }, FEATURE_TABS.map((tab) => tabLink(tab, tab === view, route))),
    exampleTab(view.key, feature, value, data, { wide, onWiden, route }),
  );
}

// A feature among others: its figures and its first few contexts.
export function featureCard(feature, data, { limit, href, wide }) {
  const value = valuesOf(feature, data.table);
  return h(
    "article",
    { class: "feature", id: `feature-${feature.id}` },
    head(feature, value, data, href),
    contextList((feature.windows.top ?? []).slice(0, limit), { feature: feature.id, strongest: value("max"), data, wide }),
  );
}

function valuesOf(feature, table) {
  return (key) => table.columns.find((column) => column.key === key)?.values[feature.id] ?? null;
}

function head(feature, value, data, href = null) {
  const label = value("label");
  const title = h("h2", {}, label ? [label, h("span", { class: "muted unlabelled" }, `#${feature.id}`)] : [`Feature ${feature.id}`, h("span", { class: "muted unlabelled" }, "unlabelled")]);
  return [
    crumbs(feature.id, value("level"), data),
    href ? h("a", { class: "plain", href }, title) : title,
    value("note") ? h("p", { class: "note" }, value("note")) : null,
    value("density") ? [keyNumbers(feature, value, data), panels(feature, value("density"), data)] : h("p", { class: "muted dead" }, "Dead: it never fired on the text looked at."),
  ];
}

function tabLink(tab, current, route) {
  return h("a", { href: address({ ...route, view: tab.key }), "aria-current": current ? "true" : null }, tab.label);
}

function panels(feature, density, { summary, vocabulary }) {
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

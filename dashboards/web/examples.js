// What a feature's tabs show: contexts of four kinds, features that fire together, directions that are alike.

import { contextList } from "./contexts.js";
import { h } from "./dom.js";
import { cofiring, neighbours } from "./related.js";

const KINDS = {
  "": { kind: "top", words: (n) => `${n} strongest, one for each stretch of text` },
  random: { kind: "random", words: (n) => `${n} firings drawn uniformly, whatever their strength; strongest first` },
  near: { kind: "quantile", band: 0, words: (n, bands) => `${n} firings drawn from the weakest ${Math.round(100 / bands)}% of all, just above the threshold` },
  quantiles: { kind: "quantile", words: (_, bands) => `firings in ${bands} bands of equal count, some of each` },
};

const EMPTY_BAND = "No firing falls in the weakest band (ties or too few firings).";

export function exampleTab(view, feature, value, data, options) {
  if (view === "cofiring") return cofiring(feature, data);
  if (view === "neighbours") return neighbours(feature, value, data);
  const { kind, words, band } = KINDS[view];
  const windows = feature.windows[kind]?.filter((window) => band === undefined || window.band === band);
  if (!windows) return unmeasured("Not measured: the run's features were collected without these contexts.");
  if (windows.length === 0) return unmeasured(band !== undefined && value("density") ? EMPTY_BAND : "No context: it did not fire on the text looked at.");
  const { n_bands: bands, n_tokens: looked } = data.summary.features;
  return h(
    "section",
    { class: "examples" },
    h("div", { class: "subhead" }, h("span", { class: "muted" }, `${words(windows.length, bands)}, from ${looked.toLocaleString("en-US")} tokens`), widenButton(options)),
    view === "quantiles" ? banded(windows, feature, value, data, options) : list(windows, feature, value, data, options),
  );
}

function list(windows, feature, value, data, { wide, route }) {
  return contextList(windows, { feature: feature.id, strongest: value("max"), data, wide, route });
}

function banded(windows, feature, value, data, options) {
  const n = data.summary.features.n_bands;
  // The strongest band first, as everywhere.
  const bands = Array.from({ length: n }, (_, place) => n - 1 - place);
  const inBand = (band) => windows.filter((window) => window.band === band);
  const shown = (own) => (own.length ? list(own, feature, value, data, options) : h("p", { class: "muted" }, "No firing falls in this band (ties or too few firings)."));
  return bands.map((band) => [h("h4", { class: "band muted" }, bandName(band, n)), shown(inBand(band))]);
}

function bandName(band, n) {
  const percent = (part) => `${Math.round((100 * part) / n)}%`;
  const which = band === n - 1 ? ", the strongest" : band === 0 ? ", the weakest" : "";
  return `${percent(band)} to ${percent(band + 1)} of firings by strength${which}`;
}

function widenButton({ wide, onWiden }) {
  return onWiden ? h("button", { class: "quiet", onclick: onWiden, "aria-pressed": String(wide), title: "widen or narrow all (w)" }, wide ? "Narrow all" : "Widen all") : null;
}

export function unmeasured(words) {
  return h("p", { class: "muted unmeasured" }, words);
}

// The runs of a sweep, one line each; every line leads to its run's page.

import { h, svg } from "./dom.js";
import { count, duration, metric } from "./watch_words.js";

const COLUMNS = [
  ["loss", "loss"],
  ["explained_variance", "EV"],
  ["l0", "L0"],
  ["dead", "dead"],
  ["pace", "tokens/s"],
];
const SPARK = { width: 96, height: 22 };

export function sweepTable(runs) {
  const heads = ["run", "", "EV so far", ...COLUMNS.map(([, label]) => label), "what to look at"];
  const head = h("tr", {}, heads.map((label, place) => h("th", { class: place > 2 && place < 8 ? "figure" : null }, label)));
  return h("div", { class: "wide" }, h("table", { class: "runs" }, h("thead", {}, head), h("tbody", {}, runs.map(line))));
}

function line(run) {
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: run.href }, run.name)),
    h("td", { class: "muted nobreak" }, progress(run)),
    h("td", {}, spark(run.spark)),
    COLUMNS.map(([key]) => h("td", { class: "figure" }, metric(key, run.last[key]))),
    h("td", { class: "trouble" }, trouble(run)),
  );
}

function progress(run) {
  if (run.state !== "running") return run.state;
  const done = run.n_steps ? `${Math.round((100 * run.step) / run.n_steps)}%` : `step ${count(run.step)}`;
  return run.left_s ? `${done}, ${duration(run.left_s)} left` : done;
}

function trouble(run) {
  if (!run.n_alerts) return h("span", { class: "muted" }, run.early ? "too early to tell" : "nothing");
  const [first] = run.alerts;
  const more = run.n_alerts > 1 ? h("span", { class: "muted" }, ` and ${run.n_alerts - 1} more`) : null;
  return [h("span", { class: `alert ${first.level}` }, h("span", { class: "level" }, first.level)), ` ${first.seen}`, more];
}

function spark(values) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return null;
  const low = Math.min(...known);
  const range = Math.max(...known) - low || 1;
  const x = (place) => (place * SPARK.width) / (values.length - 1);
  const y = (value) => SPARK.height - 2 - ((value - low) / range) * (SPARK.height - 4);
  const points = values.map((value, place) => (value === null ? null : `${x(place).toFixed(1)},${y(value).toFixed(1)}`));
  const drawn = svg("polyline", { points: points.filter(Boolean).join(" "), class: "curve", style: { stroke: "var(--accent)" } });
  return svg("svg", { ...SPARK, class: "spark", "aria-hidden": "true" }, drawn);
}

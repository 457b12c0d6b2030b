// The runs of a sweep, one line each; every line leads to its run's page.

import { h, svg } from "./dom.js";
import { count, duration, metric } from "./watch_words.js";

const COLUMNS = [
  ["loss", "loss"],
  ["explained_variance", "EV", "first"],
  ["l0", "L0", "first"],
  ["dead", "dead"],
  ["pace", "tokens/s"],
];
const SPARK = { width: 96, height: 22 };

export function sweepTable(runs) {
  const range = extent(runs.flatMap((run) => run.spark));
  const heads = ["run", "", "EV so far", ...COLUMNS.map(([, label]) => label), "trouble"];
  const kinds = [null, null, "wider", ...COLUMNS.map((_, place) => kind(place)), null];
  const head = h("tr", {}, heads.map((label, place) => h("th", { class: kinds[place] }, label)));
  return h("div", { class: "wide" }, h("table", { class: "runs" }, h("thead", {}, head), h("tbody", {}, runs.map((run) => line(run, range)))));
}

function line(run, range) {
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: run.href }, run.name)),
    h("td", { class: "muted nobreak" }, progress(run)),
    h("td", { class: "wider" }, spark(run.spark, range)),
    COLUMNS.map(([key], place) => h("td", { class: kind(place) }, metric(key, run.last[key]))),
    h("td", { class: "trouble" }, trouble(run)),
  );
}

function kind(place) {
  return COLUMNS[place][2] ? "figure" : "figure wider";
}

function progress(run) {
  if (run.state !== "running") return run.state;
  const done = run.n_steps ? `${Math.round((100 * run.step) / run.n_steps)}%` : `step ${count(run.step)}`;
  return run.left_s ? `${done}, ${duration(run.left_s)} left` : done;
}

function trouble(run) {
  if (!run.n_alerts) return h("span", { class: "muted" }, run.early ? "early" : "none");
  const [first] = run.alerts;
  const more = run.n_alerts > 1 ? h("span", { class: "muted told" }, ` and ${run.n_alerts - 1} more`) : null;
  return [h("span", { class: `alert ${first.level}` }, h("span", { class: "level" }, first.level)), h("span", { class: "told" }, ` ${first.seen}`), more];
}

// The same scale for all, so that lines compare; what is worse than the mean alone lies at the bottom.
function extent(values) {
  const known = values.filter((value) => value !== null);
  return [Math.max(0, Math.min(...known)), Math.max(0.01, ...known)];
}

function spark(values, [low, high]) {
  if (values.length < 2) return null;
  const x = (place) => (place * SPARK.width) / (values.length - 1);
  const y = (value) => SPARK.height - 2 - ((Math.max(low, value) - low) / (high - low || 1)) * (SPARK.height - 4);
  const points = values.map((value, place) => (value === null ? null : `${x(place).toFixed(1)},${y(value).toFixed(1)}`));
  const drawn = svg("polyline", { points: points.filter(Boolean).join(" "), class: "curve", style: { stroke: "var(--accent)" } });
  return svg("svg", { ...SPARK, class: "spark", "aria-hidden": "true" }, drawn);
}

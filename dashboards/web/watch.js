// How a run goes while it trains: what it is, what goes wrong, then the curves. Of a sweep: a line for each run.

import { h, replace } from "./dom.js";
import { Appearance } from "./theme.js";
import { ChartSheet } from "./watch_chart.js";
import { keepFresh } from "./watch_refresh.js";
import { count, duration, metric, seconds } from "./watch_words.js";
import { sweepTable } from "./watch_table.js";

const facts = JSON.parse(document.getElementById("facts").textContent);
const KEY_FIGURES = [
  ["loss", "loss"],
  ["explained_variance", "explained variance"],
  ["l0", "L0"],
  ["dead", "dead features"],
  ["dense", "dense features"],
  ["grad_norm", "gradient norm"],
  ["pace", "tokens/s"],
];
const CHECKS_NEED = 10;

new Appearance();
const sheet = facts.run ? new ChartSheet(facts.run.charts, facts.run.curves) : null;
replace(document.getElementById("page"), facts.run ? runPage(facts.run) : sweepPage());
if (sheet) sheet.draw();
keepFresh(facts.every_s, () => sheet !== null && sheet.isRead());

function runPage(run) {
  const up = facts.above ? h("a", { class: "up", href: facts.above }, "all runs") : null;
  return [
    h("header", {}, up, h("h1", {}, run.name), h("p", { class: "what muted" }, run.what.join(" \u00b7 "))),
    h("main", {}, state(run), freshness(), alerts(run), figures(run), sheet.element, origin(run)),
  ];
}

function sweepPage() {
  const n = facts.runs.length;
  const troubled = facts.runs.filter((run) => run.n_alerts > 0).length;
  const told = troubled ? `${troubled} with something to look at` : "no trouble seen";
  return [
    h("header", {}, h("h1", {}, facts.sweep), h("p", { class: "what muted" }, `${n} runs, ${told}`)),
    h("main", {}, freshness(), sweepTable(facts.runs)),
  ];
}

function state(run) {
  const parts = run.n_steps ? [`step ${count(run.step)} of ${count(run.n_steps)}`] : [`step ${count(run.step)}`];
  if (run.n_tokens) parts.push(`${count(run.n_tokens)} tokens`);
  if (run.state === "running") {
    if (run.left_s) parts.push(`about ${duration(run.left_s)} left`);
    parts.push(run.step ? `last line ${seconds(run.age_s)} ago` : "no line of metrics yet");
  }
  const done = run.n_steps ? Math.min(1, run.step / run.n_steps) : 0;
  const bar = h("div", { class: "bar", role: "img", "aria-label": `${Math.round(100 * done)}% done` });
  bar.append(h("div", { style: { width: `${100 * done}%` } }));
  return h("section", { class: "state" }, h("p", {}, h("b", {}, run.state), " \u00b7 ", parts.join(" \u00b7 ")), bar);
}

function freshness() {
  const at = new Date(1000 * facts.written_unix).toLocaleTimeString();
  if (!facts.every_s) return h("p", { class: "muted small" }, `written at ${at}; ${facts.over ? "the training is over: this page no longer refreshes" : "this page does not refresh itself"}`);
  const age = Date.now() / 1000 - facts.written_unix;
  if (age > Math.max(30, 4 * facts.every_s)) {
    const words = `This page is ${duration(age)} old: nothing rewrites it any more. Start interp watch again.`;
    return h("p", { class: "stale" }, words);
  }
  return h("p", { class: "muted small" }, `written at ${at}; refreshes every ${seconds(facts.every_s)} unless you point at a curve`);
}

function alerts(run) {
  if (run.alerts.length) return h("section", { class: "alerts" }, run.alerts.map(alert));
  const told = run.early
    ? `No trouble seen so far. Most checks need ${CHECKS_NEED} lines of metrics; there are ${run.n_rows}.`
    : "No trouble seen.";
  return h("section", { class: "alerts" }, h("p", { class: "calm" }, told));
}

function alert(told) {
  const began = `since step ${count(told.step)}, ${count(told.n_tokens)} tokens`;
  return h(
    "div",
    { class: `alert ${told.level}` },
    h("span", { class: "level" }, told.level),
    h("p", {}, h("b", {}, told.seen), " ", h("span", { class: "muted nobreak" }, began)),
    h("p", { class: "advice" }, sentence(told.advice)),
  );
}

// Commands stand in backticks; settings are told by their dashes.
function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  const parts = capital.split(/`([^`]+)`|(?<=^|[\s(])(--[a-z][\w.-]*\w)/);
  return parts.filter(Boolean).map((part) => (/^(--|interp )/.test(part) ? h("code", { class: "nobreak" }, part) : part));
}

function figures(run) {
  const shown = KEY_FIGURES.filter(([key]) => run.last[key] !== undefined);
  return h(
    "dl",
    { class: "figures" },
    shown.map(([key, label]) => h("div", {}, h("dt", {}, label), h("dd", {}, metric(key, run.last[key]), remark(run, key)))),
  );
}

function remark(run, key) {
  if (key === "l0" && run.target_l0) return h("small", {}, ` of ${count(run.target_l0)}`);
  if ((key === "dead" || key === "dense") && run.d_sae) return h("small", {}, ` of ${count(run.d_sae)}`);
  return null;
}

function origin(run) {
  return h("footer", { class: "muted small" }, `started ${run.created_utc} by `, h("code", {}, run.command));
}

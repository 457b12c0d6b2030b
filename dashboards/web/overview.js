// What this is, whether it is any good, what it is made of, how to repeat it.

import { h } from "./dom.js";
import { interval, precise, write } from "./format.js";
import { address } from "./router.js";

export function overview(summary, figures) {
  return h(
    "div",
    { class: "page overview" },
    h("div", { class: "column" }, introduction(summary), quality(summary), essentials(summary)),
    h("div", { class: "column" }, density(summary, figures), neverFired(summary), prefixes(summary, figures), repeat(summary)),
  );
}

function introduction({ run, subject, features, evaluated_on: evaluated, never_fired }) {
  const { model, hook, called, d_sae, k, n_training_tokens: tokens, notes } = subject;
  const written = (value) => value.toLocaleString("en-US");
  const facts = [
    `A ${called}${d_sae ? ` of ${written(d_sae)} features` : ""}`,
    k && subject.architecture !== "L1" ? `, k = ${k},` : "",
    hook ? [" on ", h("b", {}, hook)] : "",
    model ? [" of ", h("b", {}, model)] : "",
    tokens ? `, trained on ${written(tokens)} tokens` : "",
    ". ",
    evaluated?.n_tokens ? ["Measured on ", written(evaluated.n_tokens), " tokens of ", written(evaluated.n_documents ?? 0), " documents: ", evaluated.other ? h("b", {}, evaluated.text) : evaluated.text, ". "] : "",
    features ? `${written(features.n_alive)} of its features fire on the ${written(features.n_tokens)} tokens looked at (${never_fired.features_text}).` : "",
  ];
  return h(
    "section",
    {},
    h("h2", {}, run.name),
    h("p", { class: "lead" }, facts),
    notes.map((note) => h("p", { class: "note" }, note)),
    evaluated?.other ? h("p", { class: "note" }, evaluated.other) : null,
    run.status === "finished" ? null : h("p", { class: "note" }, "This run has not finished: its figures are of an intermediate state."),
  );
}

function quality({ quality: measured }) {
  if (!measured) return h("section", {}, h("h3", {}, "Is it any good"), h("p", { class: "muted" }, "Not measured: the run has no evaluation yet."));
  const { arms, rows, cross_entropy: levels, missed_l0: missed } = measured;
  const head = ["", ...arms].map((arm) => h("th", { scope: "col" }, arm));
  const lines = rows.map((row) =>
    h("tr", { title: row.meaning }, h("th", { scope: "row" }, row.label, row.unit ? h("span", { class: "muted unit" }, row.unit) : null), row.cells.map(qualityCell)),
  );
  return h(
    "section",
    {},
    h("h3", {}, "Is it any good"),
    h("table", { class: "figures quality" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, lines)),
    missed ? h("p", { class: "note" }, missed) : null,
    levels.length ? h("p", { class: "muted small" }, "Cross-entropy, nats/token: ", levels.map(({ label, value }, index) => [index ? " \u00b7 " : "", label, " ", h("b", {}, precise(value))])) : null,
    arms.length > 1 ? null : h("p", { class: "muted small" }, "Null arms (randomised model, frozen random decoder): not measured."),
    h("p", { class: "muted small" }, "Brackets: 95% intervals, documents resampled."),
  );
}

function essentials({ essentials: lines }) {
  return h("section", {}, h("h3", {}, "Made from"), factList(lines), h("p", { class: "small" }, h("a", { href: address({ tab: "provenance" }) }, "All of it")));
}

export function factList(lines) {
  return h("dl", { class: "facts" }, lines.map(([label, value]) => [h("dt", {}, label), h("dd", { class: /^[0-9a-f]{32,}/.test(value) ? "hash" : null }, value)]));
}

function qualityCell(cell) {
  if (cell.value === null) return h("td", { class: "muted" }, "not measured");
  const text = write(cell.value, cell.kind);
  const range = interval(cell.interval, cell.kind);
  return h("td", {}, h("b", {}, text), range ? h("span", { class: "muted range" }, `[${range}]`) : null);
}

function density({ features, never_fired: { features_text: text } }, figures) {
  if (!features) return h("section", {}, h("h3", {}, "Features"), h("p", { class: "muted" }, "Not measured: the run has no feature statistics yet."));
  return figures.place("density", "How often features fire", `on ${features.n_tokens.toLocaleString("en-US")} tokens: ${text}`);
}

// Dead is counted on several texts: each with its own, lest they seem to contradict one another.
function neverFired({ never_fired: { rows } }) {
  if (rows.length === 0) return null;
  const lines = rows.map(({ text, n_tokens, n, share }) =>
    h("tr", {}, h("th", { scope: "row" }, text), h("td", {}, write(n_tokens, "count")), h("td", {}, h("b", {}, write(n, "count"))), h("td", {}, write(share, "share"))),
  );
  return h(
    "section",
    {},
    h("h3", {}, "Features that never fire"),
    h("table", { class: "figures never-fired" }, h("thead", {}, h("tr", {}, ["on which text", "tokens", "features", "of all"].map((label) => h("th", { scope: "col" }, label)))), h("tbody", {}, lines)),
    rows.length > 1 ? h("p", { class: "muted small" }, "Each line counts on its own text: the shorter it is, the more features that fire rarely are missing from it.") : null,
  );
}

function prefixes({ prefixes: measured }, figures) {
  if (!measured) return null;
  const { columns, rows } = measured;
  const written = (value, { kind }) => write(value, kind);
  return h(
    "section",
    {},
    figures.place("prefixes", "Each prefix alone"),
    h(
      "table",
      { class: "figures" },
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column.label)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, index) => h("td", {}, written(value, columns[index])))))),
    ),
  );
}

export function repeat({ command }) {
  const button = h("button", { class: "quiet" }, "Copy");
  const code = h("code", {}, command);
  button.addEventListener("click", async () => {
    button.textContent = (await copied(command, code)) ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return h("section", {}, h("h3", {}, "Repeat it"), h("div", { class: "command" }, code, button));
}

// The clipboard may be closed to a page opened from disk; then the text is selected for the reader to copy.
async function copied(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return false;
  }
}

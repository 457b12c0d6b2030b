// The page of a sweep: frontiers, a table of its members to sort, seeds compared, cost, and where it all comes from.

import { h, replace } from "./dom.js";
import { EmbeddedSource } from "./embedded_source.js";
import { Figures } from "./figures.js";
import { number, precise, share } from "./format.js";
import { themeButton } from "./frame.js";
import { factList, repeat } from "./overview.js";
import { MembersTable } from "./sweep_table.js";
import { Appearance } from "./theme.js";

// Figures whose points lead to the member's line in the table.
class SweepFigures extends Figures {
  async fill(canvas) {
    await super.fill(canvas);
    if (canvas.dataset.leads) return;
    canvas.dataset.leads = "true";
    canvas.on("plotly_click", ({ points }) => this.onMember?.(points[0].customdata));
  }
}

class SweepPage {
  constructor(source) {
    this.summary = source.summary;
    this.theme = new Appearance();
    this.figures = new SweepFigures(source, this.theme);
    this.table = new MembersTable(this.summary.members);
    this.figures.onMember = (name) => this.table.point(name);
    replace(document.getElementById("page"), this.header(), h("main", {}, this.body()));
    window.addEventListener("hashchange", () => this.table.show());
    window.addEventListener("keydown", (event) => {
      if (event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey) this.theme.toggle();
    });
    this.table.show();
    document.documentElement.dataset.shown = "overview";
  }

  header() {
    const { name, model, hooks, members, cost } = this.summary;
    const where = hooks.length === 1 ? hooks[0] : `${hooks.length} hooks`;
    const saved = cost.saving === null ? "not measured" : share(cost.saving);
    return h(
      "header",
      {},
      h("span", { class: "run" }, name),
      h("span", { class: "about muted" }, `${model} \u00b7 `, h("b", {}, where), ` \u00b7 ${members.length} SAEs`),
      h("span", { class: "headline spread" }, h("span", {}, h("span", { class: "muted" }, "saved by one pass "), h("b", {}, saved))),
      themeButton(this.theme),
    );
  }

  body() {
    return h("div", { class: "sweep" }, h("p", { class: "lead" }, this.lead()), failures(this.summary.members), this.frontiers(), this.runs(), this.seeds(), this.training(), this.cost(), origin(this.summary));
  }

  lead() {
    const { members, training_tokens: trained, n_tokens: measured, model } = this.summary;
    return `${members.length} SAEs trained side by side on the same ${trained.toLocaleString("en-US")} tokens of activations of ${model}, each byte for byte what it is when trained alone. Measured on the same ${measured.toLocaleString("en-US")} held-out tokens.`;
  }

  frontiers() {
    const note = "lines join means over seeds, whiskers are their standard deviation, open points single SAEs; a point leads to its line below";
    return h("div", { class: "pair" }, this.figure("variance", "What sparsity costs in explained variance", note), this.figure("ce", "What it costs the language model", "higher loss with the SAE in the activations' place", "an encoder predicts no next token"));
  }

  figure(name, title, note, reason = "") {
    if (this.summary.figures.includes(name)) return this.figures.place(name, title, note);
    return h("section", {}, h("h3", {}, title), h("p", { class: "muted" }, `Not measured${reason ? `: ${reason}` : ""}.`));
  }

  runs() {
    return h("section", {}, h("h3", {}, "Members"), this.table.element);
  }

  seeds() {
    const { pairs } = this.summary;
    const title = "Are the same features found again from another seed";
    if (pairs.length === 0) return h("section", {}, h("h3", {}, title), h("p", { class: "muted" }, "Not measured: no two members differ in their seed alone."));
    return h(
      "section",
      { class: "seeds" },
      h("h3", {}, title),
      h("p", { class: "muted small" }, "Features that fire on at least ten of the tokens looked at, each matched with one of the other seed; 1 is the same feature. Chance: as many random directions, or the other's firings on the tokens in random order."),
      h("div", { class: "pair" }, this.figure("likeness", "Mean over matched features", "filled: seed against seed; a bar: chance"), this.figure("survival", "How many are found, by how near", "matched one to one by decoder cosine")),
      pairTable(pairs),
    );
  }

  training() {
    return this.figure("curves", "Explained variance while training", "on the training stream; a line for each seed");
  }

  cost() {
    const { cost } = this.summary;
    const seconds = (value) => `${number(value)} s`;
    const each = cost.n_members ? cost.steps_seconds / cost.n_members : 0;
    const text = `H, harvesting and shuffling once: ${seconds(cost.harvest_seconds)}. S, the steps of one SAE: ${seconds(each)} on average. In one pass H + \u03a3S = ${seconds(cost.together_seconds)}; each alone \u03a3(H + S) = ${seconds(cost.alone_seconds)}. With checkpoints and logging the pass took ${seconds(cost.wall_seconds)}.`;
    return h("section", { class: "cost" }, this.figure("cost", "What one pass saves", ""), h("p", { class: "muted small" }, text));
  }
}

function failures(members) {
  const failed = members.filter((member) => member.status === "failed");
  return failed.map((member) => h("p", { class: "note" }, h("b", {}, member.name), ` was set aside: ${member.note}`));
}

const PAIR_COLUMNS = [
  ["compared features", (pair) => pair.n_features.map((n) => n.toLocaleString("en-US")).join(", ")],
  ["mean best cosine", (pair) => withNull(pair.mean_max, pair.mean_max_null)],
  ["above 0.7", (pair) => share(pair.above_07)],
  ["above 0.9", (pair) => share(pair.above_09)],
  ["correlation, matched", (pair) => withNull(pair.correlation, pair.correlation_null)],
  ["Jaccard, matched", (pair) => withNull(pair.jaccard, pair.jaccard_null)],
];

function withNull(value, chance) {
  return [h("b", {}, precise(value)), h("span", { class: "muted range" }, `chance ${precise(chance)}`)];
}

function pairTable(pairs) {
  const cells = (pair) => (pair.n_features ? PAIR_COLUMNS.map(([, write]) => h("td", {}, write(pair))) : h("td", { class: "muted", colspan: PAIR_COLUMNS.length }, "not measured: no feature fires often enough"));
  return h(
    "div",
    { class: "wide" },
    h(
      "table",
      { class: "figures" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "seeds of"), PAIR_COLUMNS.map(([label]) => h("th", { scope: "col" }, label)))),
      h("tbody", {}, pairs.map((pair) => h("tr", { title: pair.members.join(" and ") }, h("td", {}, pair.group), cells(pair)))),
    ),
  );
}

function origin(summary) {
  return h("div", { class: "pair" }, h("section", {}, h("h3", {}, "Made from"), factList(summary.provenance)), repeat(summary));
}

function start() {
  const page = document.getElementById("page");
  if (!("DecompressionStream" in window)) {
    page.textContent = "This page needs a browser of 2023 or later (DecompressionStream).";
    return;
  }
  new SweepPage(new EmbeddedSource());
}

start();

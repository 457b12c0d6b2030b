// Everything needed to check and to repeat.

import { h } from "./dom.js";
import { factList, repeat } from "./overview.js";

const TRAINING = [
  ["loss", "Loss", "on the training stream; each prefix apart where there are several"],
  ["variance", "Explained variance", "on the training stream"],
  ["l0", "L0", "active features per token"],
  ["dead", "Dead features", "not fired for a share of the training tokens"],
  ["schedule", "Learning rate and gradient norm", "before clipping"],
  ["throughput", "Throughput", "tokens per second, and shares of the time"],
  ["timeline", "Where the time went", "the language model, its text, shuffling and the SAE's steps"],
];

export function provenance(summary) {
  return h(
    "div",
    { class: "page provenance" },
    h(
      "div",
      { class: "column" },
      repeat(summary),
      summary.provenance.map(({ title, lines }) =>
        h("section", {}, h("h3", {}, title), factList(lines)),
      ),
    ),
    h("div", { class: "column" }, h("section", {}, h("h3", {}, "Config"), h("pre", { class: "config" }, summary.config || "not recorded"))),
  );
}

export function training(summary, figures) {
  const shown = TRAINING.filter(([name]) => summary.figures.includes(name));
  if (shown.length === 0) return h("div", { class: "page" }, h("p", { class: "muted" }, "Not measured: the run has written no metrics yet."));
  const told = (name, note) => (name === "dead" ? deadNote(summary, note) : note);
  return h("div", { class: "page grid" }, shown.map(([name, title, note]) => figures.place(name, title, told(name, note))));
}

// On how much text, where the run says.
function deadNote({ never_fired: { rows } }, otherwise) {
  const own = rows.find(({ key }) => key === "training");
  return own ? `not fired on the ${own.n_tokens.toLocaleString("en-US")} training tokens before` : otherwise;
}

// Everything needed to check and to repeat.

import { h } from "./dom.js";
import { factList, repeat } from "./overview.js";

const TRAINING = [
  ["loss", "Loss", "on the training stream; each prefix apart where there are several"],
  ["variance", "Explained variance", "on the training stream"],
  ["l0", "L0", "active features per token"],
  ["dead", "Dead features", "at each step those that have not fired on the last tokens: how many, the Overview says"],
  ["schedule", "Learning rate and gradient norm", "before clipping"],
  ["throughput", "Throughput", "tokens per second above; below the shares of the time: text, language model, shuffle, step"],
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
  return h("div", { class: "page grid" }, shown.map(([name, title, note]) => figures.place(name, title, note)));
}

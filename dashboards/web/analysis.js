// A page of one analysis: what was asked, figures, tables, tokens in context as evidence, and where it all comes from.

import { h, replace } from "./dom.js";
import { EmbeddedSource } from "./embedded_source.js";
import { Figures } from "./figures.js";
import { number } from "./format.js";
import { themeButton } from "./frame.js";
import { factList, repeat } from "./overview.js";
import { Appearance } from "./theme.js";
import { tokenMark } from "./tokens.js";

class AnalysisPage {
  constructor(source) {
    this.summary = source.summary;
    this.theme = new Appearance();
    this.figures = new Figures(source, this.theme);
    replace(document.getElementById("page"), this.header(), h("main", {}, this.body()));
    window.addEventListener("keydown", (event) => {
      if (event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey) this.theme.toggle();
    });
    document.documentElement.dataset.shown = "analysis";
  }

  header() {
    const { name, about, headline } = this.summary;
    return h(
      "header",
      {},
      h("span", { class: "run" }, name),
      h("span", { class: "about muted" }, about),
      h("span", { class: "headline" }, headline.map(([label, value]) => h("span", {}, h("span", { class: "muted" }, `${label} `), h("b", {}, value)))),
      themeButton(this.theme),
    );
  }

  body() {
    const { lead, parts, provenance } = this.summary;
    const origin = h("section", {}, h("h3", {}, "Made from"), factList(provenance));
    return h("div", { class: "analysis" }, h("p", { class: "lead" }, lead), parts.map((part) => this.part(part)), origin, repeat(this.summary));
  }

  part(part) {
    if (part.kind === "figure") {
      const element = this.figures.place(part.name, part.title, part.note);
      element.style.setProperty("--height", `${part.height}px`);
      return element;
    }
    return h("section", { id: part.name }, h("h3", {}, part.title), part.note ? h("p", { class: "muted small" }, part.note) : null, part.kind === "table" ? table(part) : evidence(part));
  }
}

// Columns that hold words stand left, figures right; a cell may lead to the evidence below.
function table({ columns, text, rows, leads }) {
  const side = (index) => (text.includes(index) ? "text" : null);
  const cell = (value, index, row) => h("td", { class: side(index) }, index === 0 && leads?.[row] ? h("a", { href: `#${leads[row]}` }, value) : value);
  return h(
    "div",
    { class: "wide" },
    h(
      "table",
      { class: "figures" },
      h("thead", {}, h("tr", {}, columns.map((title, index) => h("th", { scope: "col", class: side(index) }, title)))),
      h("tbody", {}, rows.map((row, at) => h("tr", {}, row.map((value, index) => cell(value, index, at))))),
    ),
  );
}

function evidence({ features }) {
  return h("div", { class: "evidence" }, features.map((feature) => h("div", { id: feature.id }, h("h4", {}, feature.title, h("span", { class: "muted" }, ` \u00b7 ${feature.note}`)), h("div", { class: "contexts" }, feature.contexts.map(context)))));
}

function context({ value, side, document, peak, position, tokens, acts, strongest }) {
  const marks = tokens.map(([id, text], index) => tokenMark({ id, text, act: acts[index], strongest, position: position - peak + index, document, peak: index === peak }));
  const row = h("div", { class: "context" }, h("span", { class: "context-value" }, number(value)), h("span", { class: "side muted", title: `${side}, document ${document}` }, `${side} ${document}`), h("div", { class: "context-text", title: "click for the whole of it" }, marks));
  row.addEventListener("click", () => String(getSelection()) === "" && row.classList.toggle("wide"));
  return row;
}

function start() {
  const page = document.getElementById("page");
  if (!("DecompressionStream" in window)) {
    page.textContent = "This page needs a browser of 2023 or later (DecompressionStream).";
    return;
  }
  new AnalysisPage(new EmbeddedSource());
}

start();

// The page: a header with the key figures, tabs, and whichever view the address asks for.

import { h, replace } from "./dom.js";
import { FeaturesView, SampleView } from "./features.js";
import { Figures } from "./figures.js";
import { precise, write } from "./format.js";
import { helpDialog, startKeys } from "./keys.js";
import { overview } from "./overview.js";
import { provenance, training } from "./provenance.js";
import { TABS, address, go, read } from "./router.js";
import { EmbeddedSource } from "./source.js";
import { Appearance } from "./theme.js";
import { startTooltip } from "./tooltip.js";

const CONTRACT_VERSION = 1;

class App {
  constructor(source) {
    Object.assign(this, { source, summary: source.summary, views: new Map(), theme: new Appearance() });
    this.figures = new Figures(source, this.theme);
    this.tabs = TABS.filter((tab) => this.summary.features || !["features", "sample"].includes(tab));
    this.links = new Map(this.tabs.map((tab) => [tab, h("a", { href: address({ tab }) }, this.title(tab))]));
    this.main = h("main", {});
    this.help = helpDialog();
    replace(document.getElementById("page"), this.header(), this.main);
    startTooltip();
    startKeys(this.actions());
    window.addEventListener("hashchange", () => this.show());
  }

  title(tab) {
    if (tab === "sample") return `Sample of ${this.summary.features.sample.ids.length}`;
    return tab[0].toUpperCase() + tab.slice(1);
  }

  header() {
    const { run, subject, headline } = this.summary;
    const about = [subject.model, subject.hook ? h("b", {}, subject.hook) : null, [subject.architecture, subject.d_sae?.toLocaleString("en-US")].filter(Boolean).join(" ")];
    return h(
      "header",
      {},
      h("a", { class: "run plain", href: address({ tab: "overview" }) }, run.name),
      h("span", { class: "about muted" }, about.filter(Boolean).flatMap((part, index) => (index ? [" \u00b7 ", part] : [part]))),
      h("span", { class: "headline" }, headline.map(keyFigure)),
      h("nav", { "aria-label": "pages" }, [...this.links.values()]),
      this.themeButton(),
      h("button", { class: "quiet icon", title: "keys and filters (?)", onclick: () => this.help.showModal() }, "?"),
    );
  }

  themeButton() {
    const other = () => (this.theme.name === "dark" ? "Light" : "Dark");
    const button = h("button", { class: "quiet icon theme", title: "light or dark (t)", onclick: () => this.theme.toggle() }, other());
    this.theme.onChange(() => (button.textContent = other()));
    return button;
  }

  actions() {
    const onView = (name, ...values) => () => this.views.get(this.route.tab)?.then((view) => view[name]?.(...values));
    return {
      j: onView("step", 1),
      k: onView("step", -1),
      w: onView("widen"),
      t: () => this.theme.toggle(),
      "[": () => this.turn(-1),
      "]": () => this.turn(1),
      "?": () => this.help.showModal(),
      "/": async () => {
        if (!this.summary.features) return;
        if (this.route.tab !== "features") go({ tab: "features" });
        (await this.view("features")).search.select();
      },
    };
  }

  turn(by) {
    const place = this.tabs.indexOf(this.route.tab);
    this.links.get(this.tabs[(place + by + this.tabs.length) % this.tabs.length]).click();
  }

  async show() {
    this.route = read(location.hash);
    if (!this.tabs.includes(this.route.tab)) this.route.tab = "overview";
    const { tab } = this.route;
    for (const [name, link] of this.links) link.setAttribute("aria-current", name === tab ? "page" : "false");
    const view = await this.view(tab);
    if (tab !== this.route.tab) return;
    if (this.main.firstElementChild !== view.element) replace(this.main, view.element);
    await view.show?.(this.route);
    document.title = `${this.summary.run.name}: ${this.title(tab)}${this.route.id === null ? "" : ` ${this.route.id}`}`;
    document.documentElement.dataset.shown = tab;
    // A tab leads back to the state in which it was left.
    this.links.get(tab).setAttribute("href", address(this.route));
  }

  view(tab) {
    if (!this.views.has(tab)) this.views.set(tab, this.build(tab));
    return this.views.get(tab);
  }

  async build(tab) {
    if (tab === "overview") return { element: overview(this.summary, this.figures) };
    if (tab === "training") return { element: training(this.summary, this.figures) };
    if (tab === "provenance") return { element: provenance(this.summary) };
    const data = { summary: this.summary, ...(await this.source.table()) };
    return tab === "features" ? new FeaturesView(data, this.source) : new SampleView(data, this.source);
  }
}

function keyFigure({ label, value, kind, unit }) {
  const text = value === null ? "not measured" : kind === "number" ? precise(value) : write(value, kind);
  const short = unit === "nats/token" ? " nats" : "";
  return h("span", { class: "key" }, h("span", { class: "muted" }, label), " ", h("b", {}, text, value === null ? "" : short));
}

function start() {
  const page = document.getElementById("page");
  if (!("DecompressionStream" in window)) {
    page.textContent = "This page needs a browser of 2023 or later (DecompressionStream).";
    return;
  }
  const source = new EmbeddedSource();
  if (source.summary.contract_version !== CONTRACT_VERSION) {
    page.textContent = `This page reads version ${CONTRACT_VERSION} of its data; got ${source.summary.contract_version}. Write the report again.`;
    return;
  }
  new App(source).show();
}

start();

// The page: a header with the key figures, tabs, whichever view the address asks for, and where it all comes from.

import { DocumentView } from "./document.js";
import { h, replace } from "./dom.js";
import { EmbeddedSource } from "./embedded_source.js";
import { FeaturesView } from "./features.js";
import { FetchSource } from "./fetch_source.js";
import { Figures } from "./figures.js";
import { levelStep } from "./format.js";
import { footer, header } from "./frame.js";
import { helpDialog, startKeys } from "./keys.js";
import { MapView } from "./map.js";
import { overview } from "./overview.js";
import { provenance, training } from "./provenance.js";
import { NOWHERE, TABS, address, followLinks, go, meant, read } from "./router.js";
import { SampleView } from "./sample.js";
import { Appearance } from "./theme.js";
import { startTooltip } from "./tooltip.js";
import { TreeView } from "./tree.js";

const CONTRACT_VERSION = 3;
const NEED_FEATURES = ["features", "tree", "map", "sample", "document"];

class App {
  constructor(source) {
    Object.assign(this, { source, summary: source.summary, views: new Map(), theme: new Appearance() });
    this.figures = new Figures(source, this.theme);
    const { features } = this.summary;
    this.tabs = TABS.filter((tab) => features || !NEED_FEATURES.includes(tab)).filter((tab) => tab !== "tree" || features.levels.length > 1);
    this.links = new Map(this.tabs.map((tab) => [tab, h("a", { href: address({ tab }) }, this.title(tab))]));
    this.main = h("main", {});
    this.help = helpDialog();
    const tools = { links: [...this.links.values()], theme: this.theme, onHelp: () => this.help.showModal() };
    replace(document.getElementById("page"), header(this.summary, tools), this.main, footer(this.summary));
    startTooltip();
    startKeys(this.actions(), (error) => this.fail(error));
    followLinks();
    window.addEventListener("hashchange", () => this.show());
  }

  title(tab) {
    if (tab === NOWHERE) return "no such page";
    if (tab === "sample") return `Sample of ${this.summary.features.sample.ids.length}`;
    return tab[0].toUpperCase() + tab.slice(1);
  }

  actions() {
    const onView = (name, ...values) => () => this.views.get(this.route.tab)?.then((view) => view[name]?.(...values));
    const pages = Object.fromEntries(this.tabs.map((tab, index) => [String(index + 1), () => this.links.get(tab).click()]));
    return {
      ...pages,
      j: onView("step", 1),
      k: onView("step", -1),
      w: onView("widen"),
      Escape: onView("dismiss"),
      ArrowRight: onView("unfold", true),
      ArrowLeft: onView("unfold", false),
      0: onView("whole"),
      t: () => this.theme.toggle(),
      "[": () => this.turn(-1),
      "]": () => this.turn(1),
      "{": () => this.page(-1),
      "}": () => this.page(1),
      "?": () => this.help.showModal(),
      "/": () => this.search(),
      f: async () => (await this.features()).tokens?.open(),
    };
  }

  // On a feature its tabs, elsewhere the pages.
  async turn(by) {
    const view = await this.view(this.route.tab);
    if (view.turn && this.route.tab !== "sample") view.turn(by);
    else this.page(by);
  }

  page(by) {
    const place = this.tabs.indexOf(this.route.tab);
    this.links.get(this.tabs[(place + by + this.tabs.length) % this.tabs.length]).click();
  }

  async search() {
    if (!this.summary.features) return;
    const view = await this.view(this.route.tab);
    (view.search ?? (await this.features()).search).select();
  }

  async features() {
    if (this.route.tab !== "features") go({ tab: "features" });
    return this.view("features");
  }

  async show() {
    const route = read(location.hash);
    if (!this.tabs.includes(route.tab) && !(route.tab === "document" && this.summary.features)) route.tab = NOWHERE;
    this.route = route;
    // What one address lacks is not what the next one does.
    this.views.delete(NOWHERE);
    try {
      await this.present(route.tab);
    } catch (error) {
      if (this.route === route) this.fail(error);
    }
  }

  // A page that cannot be shown says why, and all others stay reachable.
  fail(error) {
    console.error(error);
    const again = h("button", { class: "quiet", onclick: () => this.show() }, "Try again");
    replace(this.main, h("div", { class: "page failed", role: "alert" }, h("section", {}, h("h3", {}, "This page could not be shown"), h("p", { class: "lead" }, error.message), again)));
    document.documentElement.dataset.shown = this.route.tab;
  }

  async present(tab) {
    const current = tab === "document" ? "features" : tab;
    for (const [name, link] of this.links) link.setAttribute("aria-current", name === current ? "page" : "false");
    const view = await this.view(tab);
    if (tab !== this.route.tab) return;
    if (this.main.firstElementChild !== view.element) replace(this.main, view.element);
    await view.show?.(this.route);
    document.title = `${this.summary.run.name}: ${this.title(tab)}${this.route.id === null || !NEED_FEATURES.includes(tab) ? "" : ` ${this.route.id}`}`;
    document.documentElement.dataset.shown = tab;
    // A tab leads back to the state in which it was left.
    this.links.get(tab)?.setAttribute("href", address(this.route));
  }

  view(tab) {
    if (!this.views.has(tab)) {
      const built = this.build(tab);
      this.views.set(tab, built);
      built.catch(() => this.views.delete(tab));
    }
    return this.views.get(tab);
  }

  async build(tab) {
    if (tab === "overview") return { element: overview(this.summary, this.figures) };
    if (tab === NOWHERE) return { element: nowhere(this.route.path, this.tabs) };
    if (tab === "training") return { element: training(this.summary, this.figures) };
    if (tab === "provenance") return { element: provenance(this.summary) };
    const missing = tab === "map" && !this.summary.features.has.map;
    if (missing) return { element: h("div", { class: "page" }, h("p", { class: "muted" }, "Not measured: the decoder's map was not computed. `interp report` computes it where the run has its SAE.")) };
    const data = await this.data();
    const views = { features: FeaturesView, tree: TreeView, map: MapView, sample: SampleView, document: DocumentView };
    return new views[tab](data, this.source, this.theme);
  }

  async data() {
    const [table, tokenIndex] = await Promise.all([this.source.table(), this.source.tokenIndex()]);
    return { summary: this.summary, step: levelStep(this.summary.features.levels), tokenIndex, ...table };
  }
}

function nowhere(path, tabs) {
  const to = meant(path);
  const known = to && tabs.includes(read(to).tab) ? to : null;
  const words = TABS.includes(path.split("/")[0]) ? "This run has no such page: what it shows was not measured, or the dictionary is not nested." : "There is no page of this name.";
  return h(
    "div",
    { class: "page nowhere" },
    h("section", { role: "alert" }, h("h2", {}, `No page at #/${path}`), h("p", { class: "lead" }, words, known ? [" Did you mean ", h("a", { href: known }, known), "?"] : ""), h("p", { class: "lead" }, "Pages: ", tabs.map((tab, index) => [index ? ", " : "", h("a", { href: address({ tab }) }, tab)]), ".")),
  );
}

async function start() {
  const page = document.getElementById("page");
  const embedded = document.getElementById("summary") !== null;
  if (embedded && !("DecompressionStream" in window)) {
    page.textContent = "This page needs a browser of 2023 or later (DecompressionStream).";
    return;
  }
  const source = embedded ? new EmbeddedSource() : await FetchSource.open("resource/");
  if (source.summary.contract_version !== CONTRACT_VERSION) {
    page.textContent = `This page reads version ${CONTRACT_VERSION} of its data; got ${source.summary.contract_version}. Write the report again.`;
    return;
  }
  await new App(source).show();
}

start().catch((error) => {
  console.error(error);
  document.getElementById("page").textContent = `This page could not be opened: ${error.message}`;
});

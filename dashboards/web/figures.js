// Plotly figures, drawn once plotly.js has been inflated and again when the theme changes.

import { h, replace } from "./dom.js";

const CONFIG = {
  displaylogo: false,
  displayModeBar: false,
  responsive: true,
  showLink: false,
  showEditInChartStudio: false,
  plotlyServerURL: "",
  doubleClick: "reset",
};

export class Figures {
  constructor(source, theme) {
    Object.assign(this, { source, theme });
    this.hosts = new Map();
    theme.onChange(() => this.redraw());
  }

  // A titled area that fills itself when it is first in sight.
  place(name, title, note = "") {
    const canvas = h("div", { class: "canvas" });
    const element = h("figure", { class: `plot plot-${name}` }, h("figcaption", {}, h("h3", {}, title), note ? h("p", { class: "muted" }, note) : null), canvas);
    this.hosts.set(canvas, name);
    const watcher = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watcher.disconnect();
      this.draw(canvas);
    });
    watcher.observe(canvas);
    return element;
  }

  async draw(canvas) {
    try {
      await this.fill(canvas);
    } catch (error) {
      console.error(error);
      replace(canvas, h("p", { class: "muted" }, `Could not be drawn: ${error.message}`));
    }
  }

  async fill(canvas) {
    await this.ready();
    const [plotly, figures] = await Promise.all([this.source.plotly(), this.source.figures(this.theme.name)]);
    const { data, layout } = figures[this.hosts.get(canvas)];
    await plotly.react(canvas, structuredClone(data), { ...structuredClone(layout), autosize: true }, CONFIG);
    canvas.dataset.drawn = this.theme.name;
  }

  redraw() {
    for (const canvas of this.hosts.keys()) if (canvas.dataset.drawn) this.draw(canvas);
  }

  // The words and tables of a page come first: plotly.js keeps the page busy for a second.
  ready() {
    this.painted ??= new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
    return this.painted;
  }
}

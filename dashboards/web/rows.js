// A long list of rows of one height. Only the rows in sight exist, so 65,000 features scroll like 60.

import { h, replace } from "./dom.js";

export const ROW = 29;
const SPARE = 10;

export class Rows {
  constructor(draw, { onScroll = null } = {}) {
    Object.assign(this, { draw, n: 0, drawn: "" });
    this.body = h("div", { class: "rows", role: "rowgroup" });
    this.spacer = h("div", { class: "spacer" }, this.body);
    this.element = h("div", { class: "scroller", onscroll: () => (this.fill(), onScroll?.()) }, this.spacer);
    new ResizeObserver(() => this.fill()).observe(this.element);
  }

  show(n) {
    this.n = n;
    this.spacer.style.height = `${n * ROW}px`;
    this.redraw();
  }

  redraw() {
    this.drawn = "";
    this.fill();
  }

  reveal(place) {
    const { scrollTop, clientHeight } = this.element;
    const top = place * ROW;
    if (top < scrollTop || top + ROW > scrollTop + clientHeight) this.element.scrollTop = top - clientHeight / 2 + ROW / 2;
  }

  fill() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW) - SPARE);
    const last = Math.min(this.n, first + Math.ceil(this.element.clientHeight / ROW) + 2 * SPARE);
    this.element.parentElement?.style.setProperty("--scrollbar", `${this.element.offsetWidth - this.element.clientWidth}px`);
    if (this.drawn === `${first}-${last}`) return;
    this.drawn = `${first}-${last}`;
    this.body.style.transform = `translateY(${first * ROW}px)`;
    replace(this.body, Array.from({ length: last - first }, (_, index) => this.draw(first + index)));
  }
}

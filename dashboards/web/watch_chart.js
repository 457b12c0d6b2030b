// Curves over the tokens seen. Pointing at one reads all of them at the same step; arrow keys go on from there.

import { h, replace, svg } from "./dom.js";
import { linear, logarithmic, logTicks, roundTicks } from "./watch_scale.js";
import { count, short, written } from "./watch_words.js";

// The frame's padding, as in watch.css.
const PADDING = 24;
const HEIGHT = 172;
const MARGIN = { left: 46, right: 14, top: 10, bottom: 22 };
const GUTTER = 108;
const LABEL_HEIGHT = 14;
const LOG_FROM = 5;
const READING_MS = 60000;

export class ChartSheet {
  constructor(charts, curves) {
    this.curves = curves;
    this.at = null;
    this.moved = 0;
    this.charts = charts.map((chart) => new Chart(chart, curves, (at) => this.point(at)));
    this.element = h("section", { class: "charts", tabindex: "0", "aria-label": "curves" }, this.charts.map((chart) => chart.element));
    this.element.addEventListener("keydown", (event) => this.key(event));
    addEventListener("resize", () => this.draw());
  }

  draw() {
    for (const chart of this.charts) chart.draw(this.at);
  }

  // A pointer that was forgotten over a curve does not hold the page up for ever.
  isRead() {
    return this.at !== null && Date.now() - this.moved < READING_MS;
  }

  point(at) {
    this.moved = Date.now();
    if (at === this.at) return;
    this.at = at;
    for (const chart of this.charts) chart.read(at);
  }

  key(event) {
    const last = this.curves.step.length - 1;
    const from = this.at ?? last;
    const to = { ArrowLeft: Math.max(0, from - 1), ArrowRight: Math.min(last, from + 1), Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.point(to);
  }
}

class Chart {
  constructor(chart, curves, onPoint) {
    Object.assign(this, chart);
    this.curves = curves;
    this.many = this.lines.length > 1;
    this.value = h("b", {});
    this.where = h("span", { class: "muted" });
    this.picture = svg("svg", { role: "img", "aria-label": this.title, height: HEIGHT });
    const head = h("figcaption", {}, h("span", { class: "name" }, this.title), this.where, this.value);
    this.element = h("figure", { class: "chart", "data-name": this.name }, head, this.note ? h("p", { class: "note" }, this.note) : null, this.picture);
    this.picture.addEventListener("pointermove", (event) => onPoint(this.nearest(event)));
    this.picture.addEventListener("pointerdown", (event) => onPoint(this.nearest(event)));
    this.picture.addEventListener("pointerleave", () => onPoint(null));
  }

  low(key) {
    return this.curves.low[key] ?? [];
  }

  high(key) {
    return this.curves.high[key] ?? this.low(key);
  }

  nearest(event) {
    const x = event.clientX - this.picture.getBoundingClientRect().left;
    const gaps = this.curves.tokens.map((tokens) => Math.abs(this.x(tokens) - x));
    return gaps.indexOf(Math.min(...gaps));
  }

  draw(at) {
    const width = Math.max(240, this.element.clientWidth - PADDING);
    const tokens = this.curves.tokens;
    this.right = width - (this.many ? GUTTER : MARGIN.right);
    this.x = linear(Math.min(0, tokens[0]), tokens[tokens.length - 1], MARGIN.left, this.right);
    this.heights();
    this.picture.setAttribute("width", width);
    this.cross = svg("line", { class: "cross", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden" });
    this.labels = svg("g", {});
    const drawn = this.axis === "stack" ? this.stacked() : this.lines.map((line) => this.line(line));
    replace(this.picture, this.grid(), this.marked(), drawn, this.cut(), this.labels, this.cross);
    this.read(at);
  }

  heights() {
    const marks = this.marks.map((mark) => mark.value);
    const all = this.lines.flatMap((line) => [...this.low(line.key), ...this.high(line.key)]).filter((value) => value !== null);
    let [low, high] = [Math.min(...all, ...marks), Math.max(...all, ...marks)];
    this.isLog = this.axis === "log" && low > 0 && high > LOG_FROM * low;
    if (this.floor !== null) [low, high] = [Math.max(low, this.floor), Math.max(high, this.floor)];
    if (this.axis === "stack") [low, high] = [0, 1];
    if (this.axis === "zero") [low, high] = [Math.min(0, low), Math.max(1.05 * high, this.kind === "count" ? 10 : 0)];
    if (low === high) [low, high] = [low - 0.5 * Math.abs(low || 1), high + 0.5 * Math.abs(high || 1)];
    [this.bottom, this.top] = [low, high];
    const scale = (this.isLog ? logarithmic : linear)(low, high, HEIGHT - MARGIN.bottom, MARGIN.top);
    this.y = (value) => scale(Math.max(value, low));
  }

  grid() {
    const levels = (this.isLog ? logTicks : roundTicks)(this.bottom, this.top, 4);
    const across = levels.map((tick) => [
      svg("line", { class: "grid", x1: MARGIN.left, x2: this.right, y1: this.y(tick), y2: this.y(tick) }),
      svg("text", { class: "tick", x: MARGIN.left - 6, y: this.y(tick) + 4, "text-anchor": "end" }, this.tick(tick)),
    ]);
    const tokens = this.curves.tokens;
    const under = { class: "tick", y: HEIGHT - 6 };
    const room = Math.max(2, Math.floor((this.right - MARGIN.left) / 80));
    const ticks = roundTicks(0, tokens[tokens.length - 1], room).filter((tick) => this.x(tick) < this.right - 56);
    const along = ticks.map((tick) => svg("text", { ...under, x: this.x(tick), "text-anchor": tick ? "middle" : "start" }, short(tick)));
    return [across, along, svg("text", { ...under, x: this.right, "text-anchor": "end" }, "tokens")];
  }

  tick(value) {
    return this.axis === "stack" ? `${Math.round(100 * value)}%` : short(value);
  }

  // Where values below the floor were drawn at it: how low they really go.
  cut() {
    if (this.floor === null) return null;
    const lowest = Math.min(...this.lines.flatMap((line) => this.low(line.key)).filter((value) => value !== null));
    if (!(lowest < this.floor)) return null;
    const y = this.y(this.floor);
    return [
      svg("line", { class: "mark", x1: MARGIN.left, x2: this.right, y1: y, y2: y }),
      svg("text", { class: "tick cut", x: this.right, y: y - 4, "text-anchor": "end" }, `cut off below ${short(this.floor).replace("-", "\u2212")}; lowest ${written(this.kind, lowest)}`),
    ];
  }

  marked() {
    return this.marks.map((mark) => [
      svg("line", { class: "mark", x1: MARGIN.left, x2: this.right, y1: this.y(mark.value), y2: this.y(mark.value) }),
      svg("text", { class: "tick", x: this.right, y: this.beside(mark.value), "text-anchor": "end" }, `${mark.label} ${short(mark.value)}`),
    ]);
  }

  // Above its line, or below where there is no room.
  beside(value) {
    const y = this.y(value);
    return y - 4 > MARGIN.top + 6 ? y - 4 : y + 13;
  }

  line(line) {
    const [low, high] = [this.low(line.key), this.high(line.key)];
    const middle = low.map((value, place) => (value === null ? null : this.isLog ? Math.sqrt(value * high[place]) : (value + high[place]) / 2));
    const colour = { stroke: `var(--${line.colour})`, fill: `var(--${line.colour})` };
    const parts = low === high ? [] : runs(low).map((run) => svg("path", { class: "band", d: this.band(run, low, high), style: colour }));
    for (const run of runs(low)) {
      if (run.length === 1) parts.push(svg("circle", { ...this.at_(run[0], middle), r: 2.5, style: colour }));
      else parts.push(svg("path", { class: "curve", d: `M${this.points(run, middle)}`, style: { stroke: colour.stroke } }));
    }
    return parts;
  }

  at_(place, values) {
    return { cx: this.x(this.curves.tokens[place]), cy: this.y(values[place]) };
  }

  points(run, values) {
    return run.map((place) => `${this.x(this.curves.tokens[place]).toFixed(1)} ${this.y(values[place]).toFixed(1)}`).join("L");
  }

  band(run, low, high) {
    return `M${this.points(run, high)}L${this.points([...run].reverse(), low)}Z`;
  }

  // Shares that were rounded or enveloped are made to add up to one again.
  shares() {
    const all = this.lines.map((line) => this.low(line.key));
    const total = this.curves.tokens.map((_, place) => all.reduce((sum, values) => sum + (values[place] ?? 0), 0));
    return all.map((values) => values.map((value, place) => (total[place] > 0 ? value / total[place] : null)));
  }

  stacked() {
    let below = this.curves.tokens.map(() => 0);
    return this.shares().map((values, place) => {
      const above = values.map((value, at) => (value === null ? null : below[at] + value));
      const colour = { fill: `var(--${this.lines[place].colour})` };
      const parts = runs(above).map((run) => svg("path", { class: "area", d: this.band(run, below, above), style: colour }));
      below = above;
      return parts;
    });
  }

  // Values at a stretch, or the last ones; in the gutter where there are several lines.
  read(at) {
    const tokens = this.curves.tokens;
    const place = at ?? tokens.length - 1;
    this.where.textContent = at === null ? "" : `step ${count(this.curves.step[at])}, ${count(tokens[at])} tokens`;
    this.cross.setAttribute("visibility", at === null ? "hidden" : "visible");
    this.cross.setAttribute("x1", this.x(tokens[place]));
    this.cross.setAttribute("x2", this.x(tokens[place]));
    if (this.many) replace(this.labels, this.gutter(place));
    else replace(this.value, this.range(this.lines[0].key, place));
  }

  range(key, place) {
    const [low, high] = [this.low(key)[place], this.high(key)[place]].map((value) => written(this.kind, value));
    return low === high ? low : `${low} to ${high}`;
  }

  gutter(place) {
    const ends = this.axis === "stack" ? this.middles() : this.lines.map((line) => this.y(lastOf(this.high(line.key))));
    const order = ends.map((y, line) => ({ y, line })).sort((a, b) => a.y - b.y);
    let lowest = MARGIN.top - LABEL_HEIGHT;
    for (const one of order) lowest = one.y = Math.max(one.y, lowest + LABEL_HEIGHT);
    const over = Math.max(0, lowest - (HEIGHT - MARGIN.bottom));
    return order.map(({ y, line }) => {
      const { key, label, colour } = this.lines[line];
      const value = this.axis === "stack" ? written("share", this.shares()[line][place]) : written(this.kind, this.high(key)[place]);
      return [
        svg("rect", { x: this.right + 6, y: y - over - 4, width: 8, height: 8, rx: 1.5, style: { fill: `var(--${colour})` } }),
        svg("text", { class: "end", x: this.right + 18, y: y - over + 4 }, svg("tspan", { class: "quiet" }, `${label} `), value),
      ];
    });
  }

  middles() {
    let below = 0;
    return this.shares().map((values) => {
      const share = lastOf(values);
      below += share;
      return this.y(below - share / 2);
    });
  }
}

// Stretches of neighbouring places that hold a value.
function runs(values) {
  const found = [];
  values.forEach((value, place) => {
    if (value === null) return;
    if (place > 0 && values[place - 1] !== null && found.length) found[found.length - 1].push(place);
    else found.push([place]);
  });
  return found;
}

function lastOf(values) {
  return values.findLast((value) => value !== null) ?? 0;
}

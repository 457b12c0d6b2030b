// One feature's firing values: log bins across, log count up. Drawn here, since there is one per feature.

import { svg } from "./dom.js";
import { number } from "./format.js";

const WIDTH = 216;
const HEIGHT = 130;
const LEFT = 26;
const BOTTOM = 18;
const TOP = 14;

export function histogram(counts, edges) {
  const used = counts.map((count, bin) => (count > 0 ? bin : -1)).filter((bin) => bin >= 0);
  if (used.length === 0) return null;
  const [first, last] = padded(used[0], used.at(-1), counts.length);
  const top = Math.max(1, Math.ceil(Math.log10(Math.max(...counts) + 1)));
  const x = (value) => LEFT + ((Math.log(value) - Math.log(edges[first])) / (Math.log(edges[last + 1]) - Math.log(edges[first]))) * (WIDTH - LEFT - 4);
  // One firing must stand above the base line, so that counts start below one.
  const y = (count) => TOP + (1 - (Math.log10(count) + 0.3) / (top + 0.3)) * (HEIGHT - TOP - BOTTOM);
  const bars = [];
  for (let bin = first; bin <= last; bin += 1) if (counts[bin] > 0) bars.push(column(counts[bin], edges[bin], edges[bin + 1], x, y, bin === 0));
  return svg(
    "svg",
    { class: "histogram", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "histogram of activations, log count over log activation" },
    countTicks(top, y),
    bars,
    valueTicks(edges[first], edges[last + 1], x),
    svg("text", { x: WIDTH - 4, y: 8, "text-anchor": "end" }, "tokens (log) by activation (log)"),
  );
}

// A single bin as wide as the panel would look like a block, not like a histogram.
function padded(first, last, n) {
  const missing = Math.max(0, 12 - (last - first));
  const start = Math.max(0, first - Math.ceil(missing / 2));
  return [start, Math.min(n - 1, Math.max(last, start + 12))];
}

// What lies below the bins was counted in the first.
function column(count, low, high, x, y, lowest) {
  const left = x(low) + 0.5;
  const range = lowest ? `up to ${number(high)}` : `at ${number(low)} to ${number(high)}`;
  return svg(
    "rect",
    { x: left, y: y(count), width: Math.max(1, x(high) - left - 0.5), height: HEIGHT - BOTTOM - y(count) },
    svg("title", {}, `${count.toLocaleString("en-US")} token${count === 1 ? "" : "s"} ${range}`),
  );
}

function countTicks(top, y) {
  const ticks = [];
  for (let power = 0; power <= top; power += top > 4 ? 2 : 1) {
    ticks.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(10 ** power), y2: y(10 ** power) }));
    ticks.push(svg("text", { x: LEFT - 5, y: y(10 ** power) + 3, "text-anchor": "end" }, tick(power)));
  }
  return ticks;
}

function tick(power) {
  const raised = [..."\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"];
  return power === 0 ? "1" : power === 1 ? "10" : `10${raised[power]}`;
}

function valueTicks(low, high, x) {
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const step of [1, 2, 5]) values.push(step * 10 ** power);
  }
  const inside = values.filter((value) => value >= low && value <= high);
  const shown = inside.length > 5 ? inside.filter((value) => /^[0.]*1/.test(String(value))) : inside;
  return shown.map((value) => svg("text", { x: x(value), y: HEIGHT - 4, "text-anchor": "middle" }, String(Number(value.toPrecision(1)))));
}

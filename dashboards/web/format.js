// Numbers and tokens as they are written everywhere on the page.

import { h } from "./dom.js";

export const MINUS = "\u2212";
const CHIP_CHARACTERS = 18;
export const CONTEXT_CHARACTERS = 80;

const writers = {
  share,
  signed,
  number,
  precise,
  count: (value) => Math.round(value).toLocaleString("en-US"),
};

// Five blues: n levels take evenly spaced ones, as dashboards/theme.py does for figures.
export function levelStep(levels) {
  return (level) => (levels.length < 2 ? 2 : Math.round(((level - 1) * 4) / (levels.length - 1)));
}

export function write(value, kind) {
  return value === null || value === undefined ? "not measured" : writers[kind](value);
}

export function number(value) {
  const size = Math.abs(value);
  if (size >= 10000) return Math.round(value).toLocaleString("en-US");
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 3;
  return minus(size !== 0 && size < 0.0005 ? value.toExponential(1) : value.toFixed(digits));
}

// Three digits, for figures whose differences matter more than their size.
export function precise(value) {
  const size = Math.abs(value);
  return size >= 10 ? number(value) : minus(value.toFixed(3));
}

export function signed(value) {
  return (value > 0 ? "+" : "") + precise(value);
}

export function share(value) {
  const percent = 100 * value;
  if (percent === 0) return "0%";
  const rest = 100 - percent;
  // Close to all is told from all.
  const few = (part) => 1 - Math.floor(Math.log10(part));
  const digits = percent > 99 && rest > 0 ? Math.min(4, Math.max(1, few(rest))) : percent >= 10 ? 1 : percent >= 0.095 ? 2 : percent >= 0.0095 ? 3 : Math.min(8, few(percent));
  return `${minus(percent.toFixed(digits))}%`;
}

function minus(text) {
  return text.replace("-", MINUS);
}

export function interval(pair, kind) {
  if (!pair) return "";
  const [low, high] = pair.map((value) => writers[kind](value));
  return `${low.replace("%", "")} to ${high}`;
}

// What must not act on the page: controls, line separators, direction marks, invisible spaces, and our own brackets' use.
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

export function visible(text) {
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return character === "\r" ? "\u240d" : `\u27e8U+${code}\u27e9`;
  });
}

export function cut(text, length) {
  const characters = text.length > 4 * length ? [...text.slice(0, 4 * length)] : [...text];
  return characters.length > length ? `${characters.slice(0, length).join("")}\u2026` : text;
}

export function chip(text, id) {
  const known = text !== null && text !== undefined;
  const element = h("span", { class: "chip", title: chipTitle(text, id) });
  if (!known) element.append(`token ${id}`);
  else if (text === "") element.append(h("span", { class: "space" }, "empty"));
  else markSpaces(element, cut(visible(text), CHIP_CHARACTERS), false);
  return element;
}

function chipTitle(text, id) {
  const length = text ? text.length : 0;
  return length > CHIP_CHARACTERS ? `token ${id}, ${length.toLocaleString("en-US")} characters` : `token ${id}`;
}

// Spaces of a chip and newlines everywhere are drawn, in a quieter colour than the text.
export function markSpaces(element, text, keepSpaces) {
  for (const part of text.split(keepSpaces ? /([\n\t])/ : /([ \n\t])/)) {
    if (part === "") continue;
    const mark = part === "\n" ? "\u21b5" : part === "\t" ? "\u21e5" : part === " " && !keepSpaces ? "\u2423" : null;
    element.append(mark === null ? part : h("span", { class: "space" }, mark));
    if (keepSpaces && part === "\n") element.append(h("span", { class: "newline" }, "\n"));
  }
}

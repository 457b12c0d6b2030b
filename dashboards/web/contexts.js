// Text around a feature's strongest activations. Opacity is activation; the peak is marked; a click widens.

import { h, replace } from "./dom.js";
import { CONTEXT_CHARACTERS, cut, markSpaces, number, visible } from "./format.js";

const LEFT_CHARACTERS = 42;
const RIGHT_CHARACTERS = 220;
const FAINTEST = 0.12;

export function contextList(feature, strongest, vocabulary, wide) {
  if (feature.contexts.length === 0) return h("p", { class: "muted" }, "No context: it did not fire on the text looked at.");
  return h(
    "div",
    { class: wide ? "contexts wide" : "contexts" },
    feature.contexts.map((context) => contextRow(context, strongest, vocabulary, wide)),
  );
}

function contextRow(context, strongest, vocabulary, wide) {
  const text = h("div", { class: "context-text" });
  let widened = wide;
  const toggle = h(
    "button",
    {
      class: "context-value",
      title: "show more or less of the text",
      onclick: () => {
        widened = !widened;
        fill();
      },
    },
    number(context.value),
  );
  const row = h("div", { class: "context" }, toggle, text, h("div", { class: "context-source muted" }, `doc ${context.document}`));
  const fill = () => {
    row.classList.toggle("wide", widened);
    toggle.setAttribute("aria-expanded", String(widened));
    replace(text, tokens(context, strongest, vocabulary, widened));
  };
  text.addEventListener("click", () => {
    if (String(getSelection()) === "") toggle.click();
  });
  fill();
  return row;
}

function tokens(context, strongest, vocabulary, widened) {
  const texts = context.tokens.map((id) => vocabulary.text(id));
  const [first, last] = widened ? [0, texts.length] : trim(texts, context.peak);
  const acts = new Map(context.fired);
  const shown = [];
  for (let index = first; index < last; index += 1) {
    shown.push(token(context, texts[index], index, acts.get(index) ?? 0, strongest));
  }
  return [first > 0 ? h("span", { class: "muted" }, "\u2026") : null, shown, last < texts.length ? h("span", { class: "muted" }, "\u2026") : null];
}

// As many whole tokens around the peak as a line has room for.
function trim(texts, peak) {
  const length = (text) => Math.min(text === null ? 8 : text.length, CONTEXT_CHARACTERS);
  let first = peak;
  for (let used = 0; first > 0 && used + length(texts[first - 1]) <= LEFT_CHARACTERS; first -= 1) used += length(texts[first - 1]);
  let last = peak + 1;
  for (let used = 0; last < texts.length && used < RIGHT_CHARACTERS; last += 1) used += length(texts[last]);
  return [first, last];
}

function token(context, text, index, act, strongest) {
  const known = text !== null;
  const strength = act > 0 ? FAINTEST + (1 - FAINTEST) * Math.min(1, act / strongest) : 0;
  const element = h("span", {
    class: index === context.peak ? "tok peak" : "tok",
    "data-act": act,
    "data-token": context.tokens[index],
    "data-position": context.position - context.peak + index,
    "data-document": context.document,
    "data-length": known && text.length > CONTEXT_CHARACTERS ? text.length : null,
  });
  const written = known ? cut(visible(text), CONTEXT_CHARACTERS) : `\u27e8${context.tokens[index]}\u27e9`;
  // The space before a word is part of the token but not of the mark.
  const space = act > 0 && /^ +(?=[^ ])/.exec(written)?.[0] ? " " : "";
  const mark = act > 0 ? h("span", { class: "lit", style: { "--strength": strength.toFixed(3) } }) : element;
  if (mark !== element) element.append(space, mark);
  markSpaces(mark, written.slice(space.length), true);
  return element;
}

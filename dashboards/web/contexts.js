// Text around a feature's firings. Opacity is activation; the peak is marked; a click widens; "doc" opens the document.

import { h, replace } from "./dom.js";
import { CONTEXT_CHARACTERS, number } from "./format.js";
import { address } from "./router.js";
import { tokenMark } from "./tokens.js";

const LEFT_CHARACTERS = 42;
const RIGHT_CHARACTERS = 220;

export function contextList(windows, about) {
  if (windows.length === 0) return h("p", { class: "muted" }, "No context: it did not fire on the text looked at.");
  return h("div", { class: about.wide ? "contexts wide" : "contexts" }, windows.map((window) => contextRow(window, about)));
}

function contextRow(context, about) {
  const text = h("div", { class: "context-text" });
  let widened = about.wide;
  const turn = () => {
    widened = !widened;
    fill();
  };
  const toggle = h("button", { class: "context-value", title: "show more or less of the text", onclick: turn }, number(context.value));
  const href = address({ tab: "document", id: context.document, feature: String(about.feature), at: String(context.position), act: String(context.value) });
  const source = h("a", { class: "context-source plain muted", href, title: "open the document" }, `doc ${context.document}`);
  const row = h("div", { class: "context" }, toggle, text, source);
  const fill = () => {
    row.classList.toggle("wide", widened);
    toggle.setAttribute("aria-expanded", String(widened));
    replace(text, tokens(context, about, widened));
  };
  text.addEventListener("click", () => {
    if (String(getSelection()) === "") turn();
  });
  fill();
  return row;
}

function tokens(context, { strongest, data }, widened) {
  const texts = context.tokens.map((id) => data.vocabulary.text(id));
  const [first, last] = widened ? [0, texts.length] : trim(texts, context.peak);
  const acts = new Map(context.fired);
  const shown = [];
  for (let index = first; index < last; index += 1) {
    shown.push(
      tokenMark({
        id: context.tokens[index],
        text: texts[index],
        act: acts.get(index) ?? 0,
        strongest: strongest || 1,
        position: context.position - context.peak + index,
        document: context.document,
        peak: index === context.peak,
      }),
    );
  }
  const more = () => h("span", { class: "muted goes-on" }, "\u2026");
  const before = first > 0 || context.position > context.peak;
  return [before ? more() : null, shown, last < texts.length || !context.ends ? more() : null];
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

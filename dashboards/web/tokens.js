// Tokens in running text: real spacing, opacity for activation, everything else in the tooltip.

import { h } from "./dom.js";
import { CONTEXT_CHARACTERS, cut, markSpaces, visible } from "./format.js";

const FAINTEST = 0.12;

// One token; `position` counts from the start of the document's piece; `act` null is not known.
export function tokenMark({ id, text, act = 0, strongest = 1, position, document, peak = false }) {
  const known = text !== null;
  const element = h("span", {
    class: peak ? "tok peak" : "tok",
    "data-act": act,
    "data-token": id,
    "data-position": position,
    "data-document": document,
    "data-length": known && text.length > CONTEXT_CHARACTERS ? text.length : null,
  });
  const written = known ? cut(visible(text), CONTEXT_CHARACTERS) : `\u27e8${id}\u27e9`;
  const strength = act > 0 ? FAINTEST + (1 - FAINTEST) * Math.min(1, act / strongest) : 0;
  // The space before a word is part of the token but not of the mark.
  const space = act > 0 && /^ +(?=[^ ])/.exec(written)?.[0] ? " " : "";
  const mark = act > 0 ? h("span", { class: "lit", style: { "--strength": strength.toFixed(3) } }) : element;
  if (mark !== element) element.append(space, mark);
  markSpaces(mark, written.slice(space.length), true);
  return element;
}

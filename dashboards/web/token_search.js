// "Which features fire on this token": letters -> tokens -> a query for the one chosen.

import { h, replace } from "./dom.js";
import { chip } from "./format.js";
import { popover } from "./popover.js";
import { quoted } from "./query.js";

const SHOWN = 60;

export function tokenSearch(vocabulary, tokenIndex, onChoose) {
  const found = popover("Token\u2026", "which features fire on a token (f)", (panel) => {
    const list = h("div", { class: "token-list" });
    const input = h("input", { class: "search", placeholder: "letters of a token", "aria-label": "letters of a token", spellcheck: "false", oninput: () => fill() });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") list.querySelector("button")?.click();
    });
    const fill = () => replace(list, listed(input.value, vocabulary, tokenIndex, choose));
    replace(panel, input, list);
    fill();
  });
  const choose = (token) => {
    found.close();
    onChoose(`token = ${quoted(vocabulary.text(token))}`);
  };
  return found;
}

// Tokens with these letters: those that are nothing else first, then by how many features they have.
function listed(letters, vocabulary, tokenIndex, choose) {
  const wanted = letters.replaceAll("\u2423", " ");
  const same = (token) => Number(vocabulary.text(token).trim().toLowerCase() === wanted.trim().toLowerCase());
  const n = (token) => tokenIndex.firing(token).length;
  const tokens = [...vocabulary.containing(wanted)].filter((token) => n(token) > 0);
  tokens.sort((a, b) => same(b) - same(a) || n(b) - n(a));
  if (tokens.length === 0) return h("p", { class: "muted" }, "No feature has a token with these letters among those it fires on most.");
  const rows = tokens.slice(0, SHOWN).map((token) =>
    h("button", { class: "token-row", onclick: () => choose(token) }, chip(vocabulary.text(token), token), h("span", { class: "muted" }, `${n(token).toLocaleString("en-US")} feature${n(token) === 1 ? "" : "s"}`)),
  );
  const more = tokens.length - SHOWN;
  return [rows, more > 0 ? h("p", { class: "muted" }, `and ${more.toLocaleString("en-US")} more: give more letters`) : null];
}

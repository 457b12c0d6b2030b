// The keyboard, and the page that explains it.

import { h } from "./dom.js";

const KEYS = [
  ["j  k", "next, previous feature"],
  ["/", "filter features"],
  ["f", "which features fire on a token"],
  ["[  ]", "previous, next tab of a feature; elsewhere page"],
  ["1 \u2026 7  {  }", "pages"],
  ["\u2190  \u2192", "tree: close, open a feature"],
  ["0", "map: all of it"],
  ["w", "widen or narrow all contexts"],
  ["Esc", "leave a field; close the list on a narrow screen"],
  ["t", "light or dark"],
  ["?", "this help"],
];
const FILTERS = [
  ["density > 0.1% and level <= 3", "compare any column, shown or not; join by and, or, not, ( )"],
  ["lily", "a token with these letters among those it fires on, raises or lowers"],
  ['token = " Lily"', "fires on exactly this token; a space may be written as \u2423"],
  ["raises: he", "a tokens column with these letters; = for the exact token"],
  ["AUC = none", "what was not measured"],
  ["#212", "one feature"],
];

export function helpDialog() {
  const list = (pairs) => h("dl", { class: "facts keys" }, pairs.map(([key, meaning]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, meaning)]));
  const dialog = h("dialog", { class: "help" }, h("h2", {}, "Keys"), list(KEYS), h("h2", {}, "Filter"), list(FILTERS), h("form", { method: "dialog" }, h("button", { class: "quiet" }, "Close")));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  return dialog;
}

// Keys of one page leave the browser's own meaning to all others.
const ONLY_ON = { ArrowLeft: "tree", ArrowRight: "tree", 0: "map" };

// An action may answer later; what it could not do is told to `onFail`.
export function startKeys(actions, onFail) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("input, textarea")) {
      if (event.key === "Escape" || event.key === "Enter") event.target.blur();
      return;
    }
    // A choice is made with letters and arrows.
    if (event.target.matches?.("select")) return;
    const action = actions[event.key];
    const { shown } = document.documentElement.dataset;
    if (!action || (ONLY_ON[event.key] ?? shown) !== shown || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    Promise.resolve(action()).catch(onFail);
  });
}

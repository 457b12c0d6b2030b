// The keyboard, and the page that explains it.

import { h } from "./dom.js";

const KEYS = [
  ["j  k", "next, previous feature"],
  ["/", "filter features"],
  ["[  ]", "previous, next page"],
  ["w", "widen or narrow all contexts"],
  ["t", "light or dark"],
  ["?", "this help"],
];
const FILTERS = [
  ["density > 0.1%", "compare a column: feature, level, density, max, mean, top token"],
  ["lily", "features that fire on, or raise, a token with these letters"],
  ["#212", "one feature"],
  ["level <= 2 and max > 4", "several conditions"],
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

export function startKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("input, textarea")) {
      if (event.key === "Escape" || event.key === "Enter") event.target.blur();
      return;
    }
    const action = actions[event.key];
    if (!action || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    action();
  });
}

// A small panel under a button; Escape or a click elsewhere closes it.

import { h } from "./dom.js";

export function popover(label, title, fill) {
  const panel = h("div", { class: "popover", hidden: true });
  const button = h("button", { class: "quiet", title, "aria-haspopup": "true", "aria-expanded": "false", onclick: () => turn(panel.hidden) }, label);
  const element = h("div", { class: "popover-host" }, button, panel);

  function turn(open) {
    if (open) fill(panel);
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open) panel.querySelector("input")?.focus();
  }

  document.addEventListener("pointerdown", (event) => {
    if (!panel.hidden && !element.contains(event.target)) turn(false);
  });
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || panel.hidden) return;
    event.stopPropagation();
    turn(false);
    button.focus();
  });
  return { element, close: () => turn(false), open: () => turn(true) };
}

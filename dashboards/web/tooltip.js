// One tooltip for all tokens in context.

import { h, replace } from "./dom.js";
import { number } from "./format.js";

export function startTooltip() {
  const tip = h("div", { class: "tip", role: "tooltip", hidden: true });
  document.body.append(tip);
  document.addEventListener("pointerover", (event) => {
    const token = event.target.closest?.(".tok");
    tip.hidden = !token;
    if (token) place(tip, token);
  });
  document.addEventListener("scroll", () => (tip.hidden = true), true);
}

function place(tip, token) {
  const { act, token: id, position, document: doc, length } = token.dataset;
  const lines = [["activation", act === undefined ? "not stored" : act === "0" ? "0" : number(Number(act))], ["token id", id], ["position", position], ["document", doc]];
  if (length) lines.push(["characters", Number(length).toLocaleString("en-US")]);
  replace(tip, lines.map(([label, value]) => h("div", {}, h("span", { class: "muted" }, label), h("b", {}, value))));
  const box = token.getClientRects()[0];
  const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
}

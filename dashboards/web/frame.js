// What stands around every view: the run and its key figures above, where it comes from below.

import { h } from "./dom.js";
import { write } from "./format.js";
import { address } from "./router.js";

export function header({ run, subject, headline }, { links, theme, onHelp }) {
  const size = [subject.architecture, subject.d_sae?.toLocaleString("en-US")].filter(Boolean).join(" ");
  const about = [subject.model, subject.hook ? h("b", {}, subject.hook) : null, size].filter(Boolean);
  return h(
    "header",
    {},
    h("a", { class: "run plain", href: address({ tab: "overview" }) }, run.name),
    h("span", { class: "about muted" }, about.flatMap((part, index) => [index ? "\u00a0\u00b7 " : "", h("span", { class: "part" }, part)])),
    h("span", { class: "headline" }, headline.map(keyFigure)),
    h("nav", { "aria-label": "pages" }, links),
    themeButton(theme),
    h("button", { class: "quiet icon", title: "keys and filters (?)", onclick: onHelp }, "?"),
  );
}

function keyFigure({ label, value, kind, unit, note }) {
  const text = value === null ? "not measured" : write(value, kind);
  const short = unit === "nats/token" ? " nats" : "";
  return h("span", { class: "key", title: note }, h("span", { class: "muted" }, label), " ", h("b", {}, text, value === null ? "" : short));
}

export function themeButton(theme) {
  const other = () => (theme.name === "dark" ? "Light" : "Dark");
  const button = h("button", { class: "quiet icon theme", title: "light or dark (t)", onclick: () => theme.toggle() }, other());
  theme.onChange(() => (button.textContent = other()));
  return button;
}

export function footer({ footer: lines, command }) {
  const parts = lines.map(([label, value]) => h("span", {}, h("span", { class: "muted" }, `${label} `), value));
  return h("footer", {}, h("a", { class: "plain", href: address({ tab: "provenance" }), title: "where this page comes from" }, parts, h("code", {}, command)));
}

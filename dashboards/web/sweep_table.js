// The members of a sweep, a line each, sorted by any column; the order stands in the address.

import { h, replace } from "./dom.js";
import { number, precise, share, signed } from "./format.js";

const count = (value) => Math.round(value).toLocaleString("en-US");
const COLUMNS = [
  ["name", "name", (value, member) => (member.report ? h("a", { href: member.report }, value) : value)],
  ["architecture", "architecture", (value) => value.replaceAll("_", " ")],
  ["k", "k", String],
  ["d_sae", "features", count],
  ["lr", "learning rate", (value) => value.toExponential().replace("e-", "e\u2212")],
  ["seed", "seed", String],
  ["hook", "hook", String],
  ["explained_variance", "EV", precise],
  ["l0", "L0", number],
  ["ce_delta", "\u0394CE, nats", signed],
  ["dead_share", "dead", share],
  ["tokens_per_s", "step, tokens/s", count],
];
const TEXT = new Set(["name", "architecture", "hook"]);

export class MembersTable {
  constructor(members) {
    this.members = members;
    this.columns = COLUMNS.filter(([key]) => members.some((member) => member[key] !== null));
    this.body = h("tbody", {});
    this.heads = new Map(this.columns.map(([key, label]) => [key, this.head(key, label)]));
    this.element = h("div", { class: "wide" }, h("table", { class: "figures members" }, h("thead", {}, h("tr", {}, [...this.heads.values()])), this.body));
  }

  head(key, label) {
    const turn = () => {
      const { key: now, down } = this.order();
      location.hash = `#/overview/${key}/${now === key && !down ? "down" : "up"}`;
    };
    return h("th", { scope: "col", class: TEXT.has(key) ? "text" : null }, h("button", { class: "sort", onclick: turn }, label));
  }

  // From the address; as the sweep named them where it says nothing.
  order() {
    const [, , key, way] = location.hash.split("/");
    return { key: this.heads.has(key) ? key : null, down: way === "down" };
  }

  show() {
    const { key, down } = this.order();
    const sorted = [...this.members];
    if (key) sorted.sort((a, b) => compare(a[key], b[key], down));
    for (const [name, head] of this.heads) {
      if (name === key) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    replace(this.body, sorted.map((member) => this.line(member)));
  }

  line(member) {
    const cells = this.columns.map(([key, , write]) => {
      const value = member[key];
      const missing = value === null ? { class: "muted", title: member.note ?? "not measured" } : { class: TEXT.has(key) ? "text" : null };
      return h("td", missing, value === null ? "\u2013" : write(value, member));
    });
    return h("tr", { "data-member": member.name, class: member.status === "failed" ? "muted" : null }, cells);
  }

  // Show where a member stands.
  point(name) {
    const line = [...this.body.children].find((row) => row.dataset.member === name);
    if (!line) return;
    for (const row of this.body.children) row.classList.toggle("chosen", row === line);
    line.scrollIntoView({ block: "center" });
  }
}

// What was not measured stands last, whichever way.
function compare(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const way = typeof a === "string" ? a.localeCompare(b) : a - b;
  return down ? -way : way;
}

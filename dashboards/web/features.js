// The features: a list that can be sorted, filtered and searched, with one feature beside it.

import { chosenColumns, columnChooser } from "./columns.js";
import { h, replace } from "./dom.js";
import { QueryError, askedToken, misunderstood, parseQuery, sorted } from "./query.js";
import { go } from "./router.js";
import { SplitView } from "./split.js";
import { FeatureTable } from "./table.js";
import { tokenSearch } from "./token_search.js";

export class FeaturesView extends SplitView {
  constructor(data, source) {
    super(data, source, { kind: "List" });
    this.search = queryLine((query) => go({ ...this.route, query, id: null, sort: this.sortFor(query) }, { replace: true }));
    this.count = h("span", { class: "muted count", role: "status" });
    this.columns = columnChooser(data.table.columns, {
      chosen: () => chosenColumns(data.table.columns, this.route.columns),
      onChange: (columns) => go({ ...this.route, columns }, { replace: true }),
    });
    this.tokens = data.tokenIndex ? tokenSearch(data.vocabulary, data.tokenIndex, (query) => this.ask(query)) : null;
    this.table = new FeatureTable({
      vocabulary: data.vocabulary,
      step: data.step,
      onSelect: (id) => this.select(id),
      onSort: (sort) => go({ ...this.route, sort }, { replace: true }),
    });
    replace(this.tools, this.search, this.tokens?.element, this.columns.element);
    this.list.append(h("div", { class: "counted" }, this.count), this.table.element);
  }

  ask(query) {
    this.search.value = query;
    go({ ...this.route, query, id: null, sort: this.sortFor(query) }, { replace: true });
  }

  // A query for one token begins with the features that fire on it most surely.
  sortFor(query) {
    const { sort } = this.route;
    if (askedToken(query, this.data.vocabulary) !== null) return "-on_token";
    return sort.endsWith("on_token") ? "" : sort;
  }

  order() {
    return this.table.order;
  }

  async show(route) {
    this.route = route;
    this.begin(route);
    if (this.search.value !== route.query) this.search.value = route.query;
    this.filter(route);
    const id = route.id ?? this.table.order[0] ?? null;
    this.table.select(id);
    await this.open(id);
  }

  filter({ query, sort, columns: named }) {
    const asked = [query, sort, named].join("\n");
    if (asked === this.asked) return;
    this.asked = asked;
    const { table, vocabulary, tokenIndex } = this.data;
    const onToken = onTokenColumn(query, this.data);
    const columns = [...onToken, ...table.columns];
    const all = Array.from({ length: table.n }, (_, feature) => feature);
    let order = all;
    try {
      order = all.filter(parseQuery(query, table.columns, vocabulary, tokenIndex));
      this.count.classList.remove("misunderstood");
      this.count.textContent = counted(order.length, table.n);
      this.search.removeAttribute("aria-invalid");
    } catch (error) {
      if (!(error instanceof QueryError)) throw error;
      this.search.setAttribute("aria-invalid", "true");
      misunderstood(error, this.count);
    }
    this.table.show(sorted(order, sort, columns), sort, [...onToken, ...chosenColumns(table.columns, named)]);
  }
}

export function queryLine(onInput) {
  const input = h("input", {
    class: "search",
    placeholder: "density > 0.1% and level <= 3, or a token",
    "aria-label": "filter features",
    spellcheck: "false",
    oninput: () => onInput(input.value),
  });
  return input;
}

function counted(n, all) {
  const written = (value) => value.toLocaleString("en-US");
  return n === all ? `${written(all)} features` : `${written(n)} of ${written(all)} features`;
}

// Beside a query for one token: how much of each feature's firing is on it.
function onTokenColumn(query, { vocabulary, tokenIndex, table }) {
  const token = tokenIndex ? askedToken(query, vocabulary) : null;
  if (token === null) return [];
  const values = new Array(table.n).fill(null);
  for (const [feature, share] of tokenIndex.firing(token)) values[feature] = share;
  return [{ key: "on_token", label: "on it", kind: "share", meaning: "share of the feature's firings that are on this token", values }];
}

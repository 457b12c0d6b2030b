// What is stored of a document: the stretches that contexts show, with one feature's activations marked in them.

import { h, replace } from "./dom.js";
import { featureLink } from "./numbers.js";
import { address } from "./router.js";
import { tokenMark } from "./tokens.js";

export class DocumentView {
  constructor(data, source) {
    Object.assign(this, { data, source });
    this.element = h("div", { class: "page document" });
  }

  async show({ id, feature, at }) {
    const stretches = id === null ? [] : await this.source.document(id);
    const shown = feature === "" || Number(feature) >= this.data.table.n ? null : await this.source.feature(Number(feature));
    const acts = shown ? activations(shown, id) : new Map();
    const text = h("div", { class: "document-text" }, stretches.map((stretch, index) => this.stretch(stretch, index, stretches, acts, shown, id)));
    replace(this.element, this.head(id, shown, stretches), stretches.length ? text : h("p", { class: "muted" }, "Nothing of this document is stored."));
    const place = at && this.element.querySelector(`[data-position="${Number(at)}"].tok`);
    if (place) {
      place.classList.add("peak");
      place.scrollIntoView({ block: "center" });
    }
  }

  head(id, shown, stretches) {
    const n = stretches.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const feature = shown ? [" \u00b7 activations of ", featureLink(shown.id, this.data, address({ tab: "features", id: shown.id }), { chips: 3 })] : "";
    return h(
      "div",
      {},
      h("h2", {}, `Document ${id}`),
      h("p", { class: "muted" }, `${n.toLocaleString("en-US")} tokens stored, in ${stretches.length} stretch${stretches.length === 1 ? "" : "es"}`, feature),
      shown ? h("p", { class: "muted small" }, "Activations are stored where this feature's own contexts reach; elsewhere an unmarked token need not be a zero.") : null,
    );
  }

  stretch({ position, tokens }, index, stretches, acts, shown, document) {
    const before = index ? stretches[index - 1] : null;
    const gap = position - (before ? before.position + before.tokens.length : 0);
    const strongest = shown ? this.data.table.columns.find(({ key }) => key === "max").values[shown.id] || 1 : 1;
    const marks = tokens.map((id, offset) =>
      tokenMark({ id, text: this.data.vocabulary.text(id), act: acts.get(key(position + offset, id)) ?? null, strongest, position: position + offset, document }),
    );
    const words = gap > 0 ? `${gap.toLocaleString("en-US")} token${gap === 1 ? "" : "s"} not stored` : "another piece of the document";
    const cut = gap === 0 ? null : h("span", { class: "gap muted", title: words }, ` \u2026 ${words} \u2026 `);
    return [cut, h("span", { class: "stretch" }, marks)];
  }
}

// Tokens that a feature's own windows reach in a document, with what it did there; of others nothing is known.
function activations(feature, document) {
  const found = new Map();
  for (const windows of Object.values(feature.windows)) {
    for (const window of windows ?? []) {
      if (window.document !== document) continue;
      const acts = new Map(window.fired);
      window.tokens.forEach((token, place) => found.set(key(window.position - window.peak + place, token), acts.get(place) ?? 0));
    }
  }
  return found;
}

// Pieces of a long document count their positions anew: the token itself tells most of them apart.
function key(position, token) {
  return `${position} ${token}`;
}

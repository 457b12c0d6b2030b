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

  async show({ id, feature, at, act }) {
    if (id === null) {
      replace(this.element, h("p", { class: "muted" }, "The address names no document."));
      return;
    }
    const stretches = await this.source.document(id);
    const known = /^\d+$/.test(feature) && Number(feature) < this.data.table.n;
    const shown = known ? await this.source.feature(Number(feature)) : null;
    const own = shown ? windowsIn(shown, id, stretches) : [];
    const acts = activations(own, stretches);
    const peak = at === "" ? null : place(Number(at), Number(act), own, stretches);
    const text = h("div", { class: "document-text" }, stretches.map((stretch, index) => this.stretch(stretch, index, { stretches, acts: acts[index], shown, document: id, peak })));
    replace(this.element, this.head(id, shown, stretches), stretches.length ? text : h("p", { class: "muted" }, "Nothing of this document is stored."));
    this.element.querySelector(".tok.peak")?.scrollIntoView({ block: "center" });
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

  stretch({ position, tokens }, index, { stretches, acts, shown, document, peak }) {
    const before = index ? stretches[index - 1] : null;
    const gap = position - (before ? before.position + before.tokens.length : 0);
    const strongest = shown ? this.data.table.columns.find(({ key }) => key === "max").values[shown.id] || 1 : 1;
    const marks = tokens.map((id, offset) =>
      tokenMark({ id, text: this.data.vocabulary.text(id), act: acts.get(offset) ?? null, strongest, position: position + offset, document, peak: peak?.stretch === index && peak.offset === offset }),
    );
    const words = gap > 0 ? `${gap.toLocaleString("en-US")} token${gap === 1 ? "" : "s"} not stored` : "another piece of the document";
    const cut = gap === 0 ? null : h("span", { class: "gap muted", title: words }, ` \u2026 ${words} \u2026 `);
    return [cut, h("span", { class: "stretch" }, marks)];
  }
}

// The feature's windows in a document, each with the stretch that holds it and where it begins there. Pieces of a long
// document count their positions anew, so that the tokens must agree too.
function windowsIn(feature, document, stretches) {
  const own = Object.values(feature.windows).flatMap((windows) => (windows ?? []).filter((window) => window.document === document));
  return own.flatMap((window) => {
    const begins = ({ position }) => window.position - window.peak - position;
    const stretch = stretches.findIndex((one) => window.tokens.every((token, index) => one.tokens[begins(one) + index] === token));
    return stretch < 0 ? [] : [{ ...window, stretch, first: begins(stretches[stretch]) }];
  });
}

// For each stretch what the feature did on the tokens that its own windows reach; of others nothing is known.
function activations(windows, stretches) {
  const found = stretches.map(() => new Map());
  for (const { stretch, first, tokens, fired } of windows) {
    const acts = new Map(fired);
    tokens.forEach((_, index) => found[stretch].set(first + index, acts.get(index) ?? 0));
  }
  return found;
}

// The token that the address means: the peak with this activation, or else the first token at this position.
function place(position, act, windows, stretches) {
  const here = windows.filter((window) => window.position === position);
  const meant = here.find((window) => window.value === act) ?? here[0];
  if (meant) return { stretch: meant.stretch, offset: meant.first + meant.peak };
  const stretch = stretches.findIndex((one) => position >= one.position && position < one.position + one.tokens.length);
  return stretch < 0 ? null : { stretch, offset: position - stretches[stretch].position };
}

// The single file: resources stand packed in the page itself (dashboards/packing.py).

import { Source } from "./source.js";

export class EmbeddedSource extends Source {
  constructor() {
    super(JSON.parse(document.getElementById("summary").textContent));
    this.whole = new Promise((resolve) => {
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
      else resolve();
    });
  }

  async loadPlotly() {
    const script = document.createElement("script");
    script.textContent = await this.text("plotly");
    document.head.append(script);
    return window.Plotly;
  }

  // A feature with whole windows: the tokens are put back from the text that all windows share.
  async feature(id) {
    const { features_per_chunk: size } = this.summary.packing;
    const records = await this.json(`features/${Math.floor(id / size)}`);
    const record = records[id % size];
    const kinds = await Promise.all(
      Object.entries(record.windows).map(async ([kind, windows]) => [kind, windows && (await Promise.all(windows.map((window) => this.unpacked(window))))]),
    );
    return { ...record, windows: Object.fromEntries(kinds) };
  }

  async unpacked(window) {
    return { ...window, tokens: await this.tokens(window.at, window.n) };
  }

  // What is stored of a document: stretches of it, in order.
  async document(id) {
    const { document, position, at, n } = await this.json("documents");
    const mine = document.flatMap((one, index) => (one === id ? [index] : []));
    return Promise.all(mine.map(async (index) => ({ position: position[index], tokens: await this.tokens(at[index], n[index]) })));
  }

  async tokens(at, n) {
    const { tokens_per_block: size } = this.summary.packing;
    const first = Math.floor(at / size);
    const last = Math.floor((at + n - 1) / size);
    const pieces = [];
    for (let block = first; block <= last; block += 1) {
      const tokens = await this.json(`text/${block}`);
      pieces.push(tokens.slice(Math.max(0, at - block * size), at + n - block * size));
    }
    return pieces.flat();
  }

  async text(name) {
    const packed = await this.element(name);
    const stream = new Blob([bytes(packed.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  async element(name) {
    const find = () => document.querySelector(`script[data-resource="${name}"]`);
    // An element that is the last one so far may still be arriving.
    const early = find();
    if (early && early.nextElementSibling) return early;
    await this.whole;
    const element = find();
    if (!element) throw new Error(`this page holds no ${name}`);
    return element;
  }
}

function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const characters = atob(base64);
  const found = new Uint8Array(characters.length);
  for (let index = 0; index < characters.length; index += 1) found[index] = characters.charCodeAt(index);
  return found;
}

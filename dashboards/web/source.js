// Where the page's data comes from. The renderer asks for `summary`, `table`, `feature(id)`, `figures(theme)` and
// `plotly`; this host finds them packed in the page itself (dashboards/packing.py). A server would answer the same.

export class EmbeddedSource {
  constructor() {
    this.summary = JSON.parse(document.getElementById("summary").textContent);
    this.resources = new Map();
    this.whole = new Promise((resolve) => {
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
      else resolve();
    });
  }

  async table() {
    const [table, vocabulary] = await Promise.all([this.json("table"), this.json("vocabulary")]);
    return { table, vocabulary: new Vocabulary(vocabulary) };
  }

  figures(theme) {
    return this.json(`figures-${theme}`);
  }

  async plotly() {
    if (!window.Plotly) {
      const code = await this.text("plotly");
      if (!window.Plotly) {
        const script = document.createElement("script");
        script.textContent = code;
        document.head.append(script);
      }
    }
    return window.Plotly;
  }

  // A feature with whole contexts: the tokens are put back from the text that all contexts share.
  async feature(id) {
    const { features_per_chunk: size } = this.summary.packing;
    const records = await this.json(`features/${Math.floor(id / size)}`);
    const record = records[id % size];
    const contexts = await Promise.all(
      record.contexts.map(async (context) => ({ ...context, tokens: await this.tokens(context.at, context.n) })),
    );
    return { ...record, contexts };
  }

  async tokens(at, n) {
    const { tokens_per_block: size } = this.summary.packing;
    const first = Math.floor(at / size);
    const last = Math.floor((at + n - 1) / size);
    const blocks = [];
    for (let block = first; block <= last; block += 1) blocks.push(await this.json(`text/${block}`));
    return blocks.flat().slice(at - first * size, at - first * size + n);
  }

  json(name) {
    if (!this.resources.has(name)) this.resources.set(name, this.text(name).then(JSON.parse));
    return this.resources.get(name);
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

class Vocabulary {
  constructor({ ids, texts }) {
    this.texts = new Map(ids.map((id, index) => [id, texts[index]]));
  }

  text(id) {
    return this.texts.get(id) ?? null;
  }

  // Ids of the tokens whose text contains these letters, whatever their case.
  matching(letters) {
    const wanted = letters.toLowerCase();
    const found = new Set();
    for (const [id, text] of this.texts) if (text !== null && text.toLowerCase().includes(wanted)) found.add(id);
    return found;
  }
}

function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const characters = atob(base64);
  const found = new Uint8Array(characters.length);
  for (let index = 0; index < characters.length; index += 1) found[index] = characters.charCodeAt(index);
  return found;
}

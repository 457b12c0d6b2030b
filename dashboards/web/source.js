// What the renderer asks for, whatever host it runs in: `summary`, `table()`, `feature(id)`, `relations()`, `map()`,
// `tokenIndex()`, `document(id)`, `figures(theme)` and `plotly()`. A host gives the text of a resource by name
// (dashboards/contract.py) and, where it packs them, puts features and documents together again.

import { Relations } from "./relations.js";
import { TokenIndex, Vocabulary } from "./vocabulary.js";

export class Source {
  constructor(summary) {
    this.summary = summary;
    this.resources = new Map();
  }

  json(name) {
    if (!this.resources.has(name)) {
      const found = this.text(name).then(JSON.parse);
      this.resources.set(name, found);
      // What failed is asked for again the next time.
      found.catch(() => this.resources.delete(name));
    }
    return this.resources.get(name);
  }

  async table() {
    const [table, vocabulary] = await Promise.all([this.json("table"), this.json("vocabulary")]);
    this.vocabulary ??= new Vocabulary(vocabulary);
    return { table, vocabulary: this.vocabulary };
  }

  async tokenIndex() {
    if (this.summary.features.has.token_index) this.index ??= new TokenIndex(await this.json("token_index"));
    return this.index ?? null;
  }

  // Parents and children, where the dictionary has levels and they were measured.
  async relations() {
    if (this.summary.features.has.tree) this.related ??= new Relations(await this.json("tree"), this.summary.features.tree_least);
    return this.related ?? null;
  }

  map() {
    return this.json("map");
  }

  feature(id) {
    return this.json(`feature/${id}`);
  }

  document(id) {
    return this.json(`document/${id}`);
  }

  figures(theme) {
    return this.json(`figures-${theme}`);
  }

  plotly() {
    if (!this.library) {
      this.library = this.loadPlotly();
      this.library.catch(() => (this.library = null));
    }
    return this.library;
  }
}

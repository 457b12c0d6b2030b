// Tokens by id: their texts, and which features fire on them.

export class Vocabulary {
  constructor({ ids, texts }) {
    this.texts = new Map(ids.map((id, index) => [id, texts[index]]));
  }

  text(id) {
    return this.texts.get(id) ?? null;
  }

  // Ids of the tokens whose text contains these letters, whatever their case.
  containing(letters) {
    const wanted = letters.toLowerCase();
    const found = new Set();
    for (const [id, text] of this.texts) if (text !== null && text.toLowerCase().includes(wanted)) found.add(id);
    return found;
  }

  exactly(wanted) {
    for (const [id, text] of this.texts) if (text === wanted) return id;
    return null;
  }
}

// Which features fire on a token: those that have it among the tokens they fire on most.
export class TokenIndex {
  constructor({ ids, features, shares }) {
    this.lists = new Map(ids.map((id, index) => [id, features[index].map((feature, rank) => [feature, shares[index][rank]])]));
  }

  // Pairs of feature and share of the feature's firings that are on this token, largest first.
  firing(token) {
    return this.lists.get(token) ?? [];
  }

  features(tokens) {
    const found = new Set();
    for (const token of tokens) for (const [feature] of this.firing(token)) found.add(feature);
    return found;
  }
}

// Parents and children of a Matryoshka dictionary, from the list of edges that were stored.

export class Relations {
  // `least`: the share of a feature's firings on which another must fire too, to stand above it in the tree.
  constructor(edges, least) {
    this.least = least;
    this.up = new Map();
    this.down = new Map();
    edges.child.forEach((child, index) => {
      const parent = edges.parent[index];
      const edge = { parent, child, cosine: edges.cosine[index], parentGivenChild: edges.parent_given_child[index], childGivenParent: edges.child_given_parent[index] };
      listed(this.up, child).push(edge);
      listed(this.down, parent).push(edge);
    });
    for (const edges of this.down.values()) edges.sort((a, b) => b.parentGivenChild - a.parentGivenChild || a.child - b.child);
  }

  // Every edge stored, however weak.
  parentsOf(id) {
    return this.up.get(id) ?? [];
  }

  childrenOf(id) {
    return this.down.get(id) ?? [];
  }

  // The one edge to the feature above in the tree: its strongest parent, if it fires where the feature fires.
  above(id, least = this.least) {
    const [strongest] = this.parentsOf(id);
    return strongest && strongest.parentGivenChild >= least ? strongest : null;
  }

  below(id, least = this.least) {
    return this.childrenOf(id).filter((edge) => this.above(edge.child, least) === edge);
  }

  // From the most general ancestor down to the feature's own parent.
  ancestry(id, least = this.least) {
    const path = [];
    for (let edge = this.above(id, least); edge; edge = this.above(edge.parent, least)) path.unshift(edge.parent);
    return path;
  }
}

function listed(lists, id) {
  if (!lists.has(id)) lists.set(id, []);
  return lists.get(id);
}

// The filter line: "density > 0.1% and level <= 3 and lily". A clause without a comparison looks for a token.

const COMPARISON = /^(.+?)\s*(<=|>=|!=|==|=|<|>)\s*(-?[\d.,]+(?:e-?\d+)?)\s*(%?)$/i;

const tests = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

// Gives (feature) => boolean. Throws an Error that says what was not understood.
export function parseFilter(text, columns, vocabulary) {
  const clauses = text.split(/\s+and\s+|\s*,\s+/i).map((clause) => clause.trim()).filter(Boolean);
  const accepted = clauses.map((clause) => parseClause(clause, columns, vocabulary));
  return (feature) => accepted.every((accepts) => accepts(feature));
}

function parseClause(clause, columns, vocabulary) {
  const found = COMPARISON.exec(clause);
  if (found) return comparison(found, columns);
  if (/^#?\d+$/.test(clause)) {
    const id = Number(clause.replace("#", ""));
    return (feature) => feature === id;
  }
  const tokens = vocabulary.matching(clause.replace(/^"(.*)"$/, "$1").replaceAll("\u2423", " ").replaceAll("\u21b5", "\n"));
  const lists = columns.filter((column) => column.kind === "tokens").map((column) => column.values);
  return (feature) => lists.some((values) => values[feature].some((token) => tokens.has(token)));
}

function comparison([, name, operator, digits, percent], columns) {
  const value = Number(digits.replaceAll(",", "")) / (percent ? 100 : 1);
  const test = tests[operator];
  const wanted = name.trim().toLowerCase();
  if (wanted === "feature") return (feature) => test(feature, value);
  const numeric = columns.filter((column) => column.kind !== "tokens");
  const column = numeric.find((one) => one.key === wanted || one.label === wanted);
  if (!column) {
    const known = ["feature", ...numeric.map((one) => one.label)].join(", ");
    throw new Error(`no column "${name.trim()}" to compare; columns: ${known}`);
  }
  return (feature) => column.values[feature] !== null && test(column.values[feature], value);
}

// Order of features for "density" (ascending) or "-density"; unknown names keep the order of ids.
export function sorted(features, sort, columns) {
  const column = columns.find((one) => one.key === sort.replace("-", ""));
  const direction = sort.startsWith("-") ? -1 : 1;
  if (!column) return direction === 1 ? features : [...features].reverse();
  const value = (feature) => {
    const found = column.values[feature];
    return column.kind === "tokens" ? (found[0] ?? Infinity) : (found ?? -Infinity);
  };
  return [...features].sort((a, b) => direction * (value(a) - value(b)) || a - b);
}

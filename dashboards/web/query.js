// The filter line: `density > 0.1% and level <= 3`, `lily or tom`, `not raises: " she"`, `token = " Lily"`, `#212`.
//
//   query  := all ("or" all)*          all    := one (("and" | ",") one)*
//   one    := "not" one | "(" query ")" | column operator number | column ":" text | column "=" text | text | #id

export class QueryError extends Error {}

const OPERATORS = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};
const KEYWORDS = ["and", "or", "not"];
const PIECE = /\s*(?:(<=|>=|!=|==|=|<|>|:)|([(),])|"((?:[^"\\]|\\.)*)"?|(\d{1,3}(?:,\d{3})+(?:\.\d+)?%?(?![^\s<>=!:(),"])|[^\s<>=!:(),"]+|!))/y;

// What stands in place of the count where a query was not understood; nothing is claimed of what it matches.
export function misunderstood(error, element) {
  element.classList.add("misunderstood");
  element.textContent = `Filter not understood: ${error.message}. All features are shown.`;
}

// Gives (feature) => boolean. Throws a QueryError that says what was not understood.
export function parseQuery(text, columns, vocabulary, tokenIndex = null) {
  const pieces = split(text);
  if (pieces.length === 0) return () => true;
  const parser = new Parser(pieces, { columns, vocabulary, tokenIndex });
  const accepts = parser.any();
  if (parser.rest()) throw new QueryError(`did not expect "${parser.rest().text}" here`);
  return accepts;
}

// The exact token that a query asks for, if it asks for one: `token = " Lily"`.
export function askedToken(text, vocabulary) {
  const found = /(?:^|[\s(,])token\s*==?\s*"((?:[^"\\]|\\.)*)"/i.exec(text);
  return found ? vocabulary.exactly(spaced(unescaped(found[1]))) : null;
}

export function quoted(text) {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll(" ", "\u2423").replaceAll("\n", "\u21b5")}"`;
}

function split(text) {
  const pieces = [];
  PIECE.lastIndex = 0;
  for (let found = PIECE.exec(text); found; found = PIECE.exec(text)) {
    const [, operator, sign, string, word] = found;
    if (operator) pieces.push({ kind: "operator", text: operator === "==" ? "=" : operator });
    else if (sign) pieces.push({ kind: sign, text: sign });
    else if (string !== undefined) pieces.push({ kind: "string", text: unescaped(string) });
    else pieces.push({ kind: KEYWORDS.includes(word.toLowerCase()) ? word.toLowerCase() : "word", text: word });
  }
  return pieces;
}

class Parser {
  constructor(pieces, known) {
    Object.assign(this, { pieces, place: 0, known });
  }

  rest() {
    return this.pieces[this.place];
  }

  take(...kinds) {
    if (!kinds.includes(this.rest()?.kind)) return null;
    this.place += 1;
    return this.pieces[this.place - 1];
  }

  any() {
    const all = [this.all()];
    while (this.take("or")) all.push(this.all());
    return all.length === 1 ? all[0] : (feature) => all.some((accepts) => accepts(feature));
  }

  all() {
    const every = [this.one()];
    while (this.take("and", ",")) every.push(this.one());
    return every.length === 1 ? every[0] : (feature) => every.every((accepts) => accepts(feature));
  }

  one() {
    if (this.take("not")) {
      const refuses = this.one();
      return (feature) => !refuses(feature);
    }
    if (this.take("(")) {
      const inside = this.any();
      if (!this.take(")")) throw new QueryError('a bracket is open: expected ")"');
      return inside;
    }
    const text = this.text();
    const operator = this.take("operator")?.text;
    if (!operator) return matching(text, this.known);
    return compared(text, operator, this.value(operator), this.known);
  }

  // Words that stand side by side are one text, as in `top token > 20%`.
  text() {
    const string = this.take("string");
    if (string) return string.text;
    const words = [];
    for (let word = this.take("word"); word; word = this.take("word")) words.push(word.text);
    if (words.length === 0) throw new QueryError(this.rest() ? `expected a column or a token before "${this.rest().text}"` : "expected something more");
    return words.join(" ");
  }

  value(operator) {
    const found = this.take("string");
    if (found) return { text: found.text };
    if (!this.take("word")) throw new QueryError(`expected a value after "${operator}"`);
    this.place -= 1;
    const text = this.text();
    const number = /^(-?[\d.]+(?:e-?\d+)?)\s*(%?)$/i.exec(text.replace("\u2212", "-").replaceAll(",", ""));
    return number ? { text, number: Number(number[1]) / (number[2] ? 100 : 1) } : { text };
  }
}

function matching(text, { columns, vocabulary }) {
  if (/^#\d+$/.test(text) || /^\d+$/.test(text)) {
    const id = Number(text.replace("#", ""));
    return (feature) => feature === id;
  }
  const tokens = vocabulary.containing(spaced(text));
  const letters = text.toLowerCase();
  const lists = columns.filter((column) => column.kind === "tokens").map((column) => column.values);
  const labels = columns.filter((column) => column.kind === "text").map((column) => column.values);
  return (feature) =>
    lists.some((values) => values[feature].some((token) => tokens.has(token))) ||
    labels.some((values) => values[feature]?.toLowerCase().includes(letters));
}

function compared(name, operator, value, known) {
  const wanted = name.toLowerCase();
  if (wanted === "token") return onToken(operator, value, known);
  const column = wanted === "feature" ? { kind: "number" } : known.columns.find((one) => one.key === wanted || one.label.toLowerCase() === wanted);
  if (!column) throw new QueryError(`no column "${name}"; columns: feature, ${known.columns.map((one) => one.label).join(", ")}`);
  if (column.kind === "tokens") return inTokens(column, operator, value, known.vocabulary);
  if (column.kind === "text") return inText(column, operator, value);
  return numeric(column, operator, value);
}

function numeric(column, operator, { text, number }) {
  const of = (feature) => (column.values ? column.values[feature] : feature);
  if (text === "none" && "=!=".includes(operator)) return (feature) => (of(feature) === null) === (operator === "=");
  const test = OPERATORS[operator];
  if (!test || number === undefined) throw new QueryError(`expected a number after "${column.label ?? "feature"}", got "${text}"`);
  return (feature) => of(feature) !== null && test(of(feature), number);
}

function inTokens(column, operator, { text }, vocabulary) {
  const tokens = wantedTokens(operator, text, vocabulary);
  return (feature) => column.values[feature].some((token) => tokens.has(token)) === (operator !== "!=");
}

function inText(column, operator, { text }) {
  const letters = text.toLowerCase();
  const accepts = operator === ":" ? (value) => value.includes(letters) : (value) => (value === letters) === (operator === "=");
  return (feature) => accepts((column.values[feature] ?? "").toLowerCase());
}

function onToken(operator, { text }, { vocabulary, tokenIndex }) {
  if (!tokenIndex) throw new QueryError("this run has no index of tokens: look for a token by its letters alone");
  const features = tokenIndex.features(wantedTokens(operator, text, vocabulary));
  return (feature) => features.has(feature) === (operator !== "!=");
}

function wantedTokens(operator, text, vocabulary) {
  if (operator === ":") return vocabulary.containing(spaced(text));
  if (operator !== "=" && operator !== "!=") throw new QueryError(`tokens are compared with "=" or ":", not "${operator}"`);
  const exact = vocabulary.exactly(spaced(text));
  return new Set(exact === null ? [] : [exact]);
}

function spaced(text) {
  return text.replaceAll("\u2423", " ").replaceAll("\u21b5", "\n").replaceAll("\u21e5", "\t");
}

function unescaped(text) {
  return text.replace(/\\(.)/g, "$1");
}

// Order of features for "density" (ascending) or "-density"; what was not measured comes last either way.
export function sorted(features, sort, columns) {
  const column = columns.find((one) => one.key === sort.replace("-", ""));
  const direction = sort.startsWith("-") ? -1 : 1;
  if (!column) return direction === 1 ? features : [...features].reverse();
  const value = (feature) => (column.kind === "tokens" ? column.values[feature][0] : column.values[feature]) ?? null;
  return [...features].sort((a, b) => ordered(value(a), value(b), direction) || a - b);
}

function ordered(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (a < b ? -1 : a > b ? 1 : 0);
}

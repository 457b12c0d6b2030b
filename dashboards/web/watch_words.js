// Numbers, times and metrics as the page of a run in training writes them.

import { number, precise, share } from "./format.js";

const RATES = { explained_variance: precise, l0: number };
const COUNTS = new Set(["dead", "dense", "pace"]);

export const count = (value) => Math.round(value).toLocaleString("en-US");

export function metric(key, value) {
  if (value === undefined || value === null) return "";
  if (COUNTS.has(key)) return count(value);
  return (RATES[key] ?? number)(value);
}

export function written(kind, value) {
  if (value === undefined || value === null) return "";
  return { number, precise, share, count }[kind](value);
}

export function seconds(value) {
  return value < 10 && value % 1 ? `${value.toFixed(1)} s` : value < 120 ? `${Math.round(value)} s` : duration(value);
}

export function duration(value) {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${Math.round(value / 86400)} days`;
}

// 1,500,000 is 1.5M on an axis.
export function short(value) {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return `${Number((value / unit).toPrecision(3))}${letter}`;
  }
  return size !== 0 && size < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(3)));
}

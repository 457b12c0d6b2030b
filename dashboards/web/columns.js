// Which columns the table shows: all that there are, with what each means.

import { h, replace } from "./dom.js";
import { popover } from "./popover.js";

// The columns that an address names, or those listed at first.
export function chosenColumns(columns, named) {
  const keys = named ? named.split(",") : columns.filter((column) => column.listed).map((column) => column.key);
  return columns.filter((column) => keys.includes(column.key));
}

export function columnChooser(columns, { chosen, onChange }) {
  return popover("Columns", "choose the columns of the table", (panel) => {
    const boxes = columns.map((column) => h("input", { type: "checkbox", value: column.key }));
    const keys = chosen().map((column) => column.key);
    for (const box of boxes) box.checked = keys.includes(box.value);
    const change = () => onChange(boxes.filter((box) => box.checked).map((box) => box.value).join(","));
    const line = (column, index) => h("label", { class: "choice" }, boxes[index], h("span", {}, column.label), h("span", { class: "muted" }, column.meaning));
    const back = h("button", { class: "quiet", onclick: () => (onChange(""), boxes.forEach((box, index) => (box.checked = columns[index].listed))) }, "As at first");
    replace(panel, columns.map(line), back);
    panel.onchange = change;
  });
}

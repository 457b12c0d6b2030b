"use strict";
// Figures in the system's colours, drawn anew when those change; texts coloured by the chosen class.
(() => {
  const told = JSON.parse(document.getElementById("told").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const draw = () => {
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = told.figures[place.dataset.figure][dark.matches ? "dark" : "light"];
      Plotly.react(place, figure.data, figure.layout, { displaylogo: false, displayModeBar: false, responsive: true });
    }
  };
  draw();
  dark.addEventListener("change", draw);

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const colour = (spans, text, chosen) => {
    spans.forEach((span, at) => {
      const p = text.probabilities[at][chosen];
      span.style.backgroundColor = `rgba(var(--activation), ${p.toFixed(3)})`;
      span.classList.toggle("true", text.labels[at] === text.classes[chosen]);
      const label = text.labels[at] ? `; labelled ${text.labels[at]}` : "";
      const best = text.probabilities[at].indexOf(Math.max(...text.probabilities[at]));
      span.title = `${text.classes[chosen]} ${p.toFixed(3)}; likeliest ${text.classes[best]}${label}`;
    });
  };

  const add = (root, text, chosen) => {
    const block = element("div", "scored");
    const line = element("div");
    const spans = text.tokens.map((token) => element("span", "token", token));
    line.append(...spans);
    block.append(line, element("small", "", `${text.document}, at ${text.site}`));
    root.append(block);
    colour(spans, text, chosen);
    return (other) => colour(spans, text, other);
  };

  const root = document.getElementById("texts");
  if (!root) return;
  for (const attribute of new Set(told.texts.map((text) => text.attribute))) {
    const held = told.texts.filter((text) => text.attribute === attribute);
    const counts = held[0].classes.map((name) => held.flatMap((text) => text.labels).filter((l) => l === name).length);
    const first = counts.indexOf(Math.max(...counts));
    const label = element("label", "choose", `${attribute}: `);
    const select = element("select");
    held[0].classes.forEach((name, at) => select.append(new Option(name, at, at === first, at === first)));
    label.append(select);
    const group = element("div");
    group.append(label);
    root.append(group);
    const redraws = held.map((text) => add(group, text, first));
    select.addEventListener("change", () => redraws.forEach((redraw) => redraw(Number(select.value))));
  }
})();

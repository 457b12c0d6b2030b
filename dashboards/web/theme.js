// Light or dark: as the system asks, unless the reader chose.

const KEY = "workbench-theme";

export class Appearance {
  constructor() {
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.listeners = [];
    this.chosen = remembered();
    this.system.addEventListener("change", () => this.apply());
    this.apply();
  }

  get name() {
    return this.chosen ?? (this.system.matches ? "dark" : "light");
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  toggle() {
    this.chosen = this.name === "dark" ? "light" : "dark";
    remember(this.chosen);
    this.apply();
  }

  apply() {
    if (document.documentElement.dataset.theme === this.name) return;
    document.documentElement.dataset.theme = this.name;
    for (const listener of this.listeners) listener(this.name);
  }
}

// A browser may refuse storage to a page opened from disk; the choice then lasts as long as the page.
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    return;
  }
}

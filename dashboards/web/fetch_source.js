// A server: the same resources by name, over HTTP (dashboards/resources.py answers them).

import { Source } from "./source.js";

export class FetchSource extends Source {
  static async open(base) {
    const response = await fetch(`${base}summary`);
    return new FetchSource(base, await answered(response).json());
  }

  constructor(base, summary) {
    super(summary);
    this.base = base;
  }

  async text(name) {
    return answered(await fetch(this.base + name)).text();
  }

  loadPlotly() {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${this.base}plotly`;
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => reject(new Error("the server gave no plotly"));
      document.head.append(script);
    });
  }
}

function answered(response) {
  if (!response.ok) throw new Error(`${response.url}: the server answered ${response.status}`);
  return response;
}

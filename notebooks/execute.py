"""Run notebooks and keep their outputs: `python notebooks/execute.py notebooks/patching.ipynb …`.

Every Plotly figure gets a picture beside it, for viewers that run no script (GitHub). Needs Chromium and playwright.
"""

import base64
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs

PLOTLY = "application/vnd.plotly.v1+json"
WIDTH = 860
_DRAW = """async ([figure, width]) => {
  const size = {width: figure.layout.width || width, height: figure.layout.height || 380};
  const layout = {...figure.layout, ...size, paper_bgcolor: "#ffffff"};
  const made = await Plotly.newPlot(document.createElement("div"), figure.data, layout);
  return await Plotly.toImage(made, {format: "png", ...size, scale: 1});
}"""


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; a cell that fails stops it."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place, coalesce_streams=True).execute()
    return cleaned(notebook)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs from run to run: times, versions, progress, warnings that name a machine's folders."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for data in (output.get("data", {}) for output in cell.outputs):
                # A table's own text is all of its fields, the command that made it among them.
                if "text/html" in data and "text/plain" in data:
                    data["text/plain"] = data["text/plain"].partition("(")[0]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def add_pictures(notebook: nbformat.NotebookNode) -> None:
    """A PNG beside each figure."""
    figures = [o.data for cell in notebook.cells for o in cell.get("outputs", []) if PLOTLY in o.get("data", {})]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.add_script_tag(content=get_plotlyjs())
        for data in figures:
            data["image/png"] = _png(page.evaluate(_DRAW, [json.loads(json.dumps(data[PLOTLY])), WIDTH]))
        browser.close()


def _png(url: Any) -> str:
    encoded = str(url).partition(",")[2]
    base64.b64decode(encoded, validate=True)
    return encoded


def main(paths: list[str]) -> None:
    """Execute each, and write it where it was."""
    # Plotly's default would write its whole script into the file.
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    for path in map(Path, paths):
        notebook = execute(path)
        add_pictures(notebook)
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])

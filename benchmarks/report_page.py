"""Size of a run's report and how fast it opens in headless Chromium.

python benchmarks/report_page.py runs/quickstart --repeats 5

Writes the page of the run anew (its features must be there; or give a page), opens it from disk in a fresh browser
context each time, and reports medians: first paint; overview complete (all figures drawn); features, tree and map
complete (a feature with its contexts beside them). Times count from the start of the navigation; on a machine that is
busy otherwise the processor time of the page's main thread says more. Requests beside the file itself and errors are
counted: both must be 0. The last line is one JSON object.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from dashboards.page import write_report

STATES = {
    "overview complete": ("#/overview", "[...document.querySelectorAll('.canvas')].every(c => c.dataset.drawn)"),
    "features complete": ("#/features", "document.querySelector('.feature .context') !== null"),
    "tree complete": ("#/tree", "document.querySelector('.tree-table .row[data-feature]') !== null"),
    "map complete": ("#/map", "document.querySelector('.feature .context') !== null"),
}
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def measure(browser: Any, page_path: Path, fragment: str, complete: str) -> dict[str, Any]:
    """Open one state in a fresh context: seconds until first paint and until complete, requests, errors."""
    context = browser.new_context(viewport={"width": 1440, "height": 860})
    page = context.new_page()
    clock = context.new_cdp_session(page)
    clock.send("Performance.enable", {"timeDomain": "threadTicks"})
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    # The page itself notes when it is complete, so that the driver's own delays do not count.
    page.add_init_script(
        "const look = () => { if (document.body && (" + complete + ")) requestAnimationFrame(() => "
        "(window.completeAt = performance.now())); else requestAnimationFrame(look); }; requestAnimationFrame(look);"
    )
    page.goto(page_path.as_uri() + fragment)
    page.wait_for_function("() => window.completeAt !== undefined", timeout=60_000)
    found = {"complete": page.evaluate("window.completeAt") / 1000, "paint": page.evaluate(PAINT) / 1000}
    # Processor time of the main thread does not count what other programs took meanwhile.
    metrics = {one["name"]: one["value"] for one in clock.send("Performance.getMetrics")["metrics"]}
    found["processor"] = metrics["TaskDuration"]
    context.close()
    return found | {"requests": len(requests) - 1, "errors": len(errors)}


def report(run: Path, repeats: int) -> dict[str, Any]:
    """All figures of one run's page."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        started = time.process_time()
        path = write_report(run, Path(folder) / "report.html") if run.is_dir() else run.resolve()
        facts: dict[str, Any] = {"bytes": path.stat().st_size, "writing, processor s": time.process_time() - started}
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        rounds = {name: [measure(browser, path, *state) for _ in range(repeats)] for name, state in STATES.items()}
        browser.close()
    every = [one for found in rounds.values() for one in found]
    facts["first paint, s"] = statistics.median(one["paint"] for one in every)
    facts |= {f"{name}, s": statistics.median(one["complete"] for one in found) for name, found in rounds.items()}
    facts |= {f"{name}, processor s": statistics.median(one["processor"] for one in r) for name, r in rounds.items()}
    facts["slowest complete, s"] = max(one["complete"] for one in every)
    return facts | {key: sum(one[key] for one in every) for key in ("requests", "errors")}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder whose features have been collected, or a page")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    facts = report(arguments.run, arguments.repeats)
    for name, value in facts.items():
        print(f"{name:32} {value:,.3f}" if isinstance(value, float) else f"{name:32} {value:,}")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

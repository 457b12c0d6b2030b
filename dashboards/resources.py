"""The page's resources by name, for hosts that answer one at a time: a server, or a test's.

`summary`, `table`, `vocabulary`, `token_index`, `tree`, `map`, `feature/<id>`, `document/<id>`, `figures-light`,
`figures-dark`, `plotly`; and of the page itself `index.html`, `web/<file>`. Names are looked up, never opened as paths.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from string import Template
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from dashboards import bundle
from dashboards.contract import noun, summary
from dashboards.feature_contract import feature_table, has_levels, map_facts, token_index, tree
from dashboards.feature_records import feature_records, used_tokens, window_limits, windows_json
from dashboards.packing import as_json, merge_windows, vocabulary
from dashboards.run_figures import figures_json, run_figures
from dashboards.run_record import RunRecord
from dashboards.theme import DARK, LIGHT
from interp.errors import ArtifactError
from saes.feature_statistics import FeatureStatistics

JSON, HTML, SCRIPT, STYLE = "application/json", "text/html; charset=utf-8", "text/javascript", "text/css"
SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; object-src 'none'; base-uri 'none'"
)
"""Content-Security-Policy for a server's answers: plotly.js sets styles and draws blobs; nothing evaluates."""
_ONE = re.compile(r"(feature|document)/(0|[1-9]\d{0,8})")


@dataclass(frozen=True, slots=True)
class Answer:
    """A resource's bytes and their media type."""

    body: bytes
    media_type: str


class RunResources:
    """Answers resource names from a run; what the run did not measure is not there."""

    def __init__(self, run: RunRecord, *, sample_seed: int = 0) -> None:
        self.run, self.sample_seed = run, sample_seed
        self._made: dict[str, Answer] = {}

    def answer(self, name: str) -> Answer:
        """The resource of this name.

        Raises: ArtifactError if there is none.
        """
        if one := _ONE.fullmatch(name):
            return _json(self._feature(int(one[2])) if one[1] == "feature" else self._document(int(one[2])))
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Answer:
        if name == "index.html":
            return Answer(self._page().encode("utf-8"), HTML)
        if name == "plotly":
            return Answer(get_plotlyjs().encode("utf-8"), SCRIPT)
        if name.removeprefix("web/") in bundle.files_of_page():
            kind = SCRIPT if name.endswith(".js") else STYLE
            return Answer(bundle.read_web(name.removeprefix("web/")).encode("utf-8"), kind)
        if name not in self._json_resources:
            raise ArtifactError(
                f"{self.run.name}: holds no {name!r}; expected one of {', '.join(self._json_resources)}"
            )
        return _json(self._json_resources[name]())

    @cached_property
    def _json_resources(self) -> dict[str, Callable[[], Any]]:
        run, s = self.run, self.run.statistics
        found: dict[str, Callable[[], Any]] = {
            "summary": lambda: summary(run, sample_seed=self.sample_seed, figures=list(run_figures(run))),
            "figures-light": lambda: figures_json(run_figures(run, LIGHT)),
            "figures-dark": lambda: figures_json(run_figures(run, DARK)),
        }
        if s is not None:
            found |= table_resources(run, s)
        return found

    def _statistics(self, feature: int = 0) -> FeatureStatistics:
        s = self.run.statistics
        if s is None or feature >= s.d_sae:
            raise ArtifactError(f"{self.run.name}: got feature {feature}; expected 0 to {s.d_sae - 1 if s else -1}")
        return s

    def _feature(self, feature: int) -> Any:
        s = self._statistics(feature)
        return feature_records(s, [feature], limits=window_limits(s, budget=1 << 62))[0]

    def _document(self, document: int) -> list[dict[str, Any]]:
        """What the windows of all features hold of a document, as stretches in order."""
        s = self._statistics()
        windows = []
        for kind in (s.top, s.random, s.quantile):
            features = np.flatnonzero((kind.document == document).any(1))
            windows += [w for each in windows_json(kind, features) for w in each if w["document"] == document]
        text, _, stretches = merge_windows(windows)
        ends = [*(stretch.at for stretch in stretches[1:]), len(text)]
        return [{"position": p.position, "tokens": text[p.at : end]} for p, end in zip(stretches, ends, strict=False)]

    def _page(self) -> str:
        styles = "\n".join(f'<link rel="stylesheet" href="web/{name}">' for name in bundle.STYLES)
        title = html.escape(f"{self.run.name}: {noun(self.run)} report")
        return Template(bundle.read_web("served.html")).substitute(title=title, styles=styles)


def table_resources(run: RunRecord, s: FeatureStatistics) -> dict[str, Callable[[], Any]]:
    """Resources that concern all features at once, in the order in which a page needs them."""
    found: dict[str, Callable[[], Any]] = {
        "table": lambda: feature_table(s, run.labels),
        "vocabulary": lambda: vocabulary(used_tokens(s), run.token_texts),
        "token_index": lambda: token_index(s),
    }
    if has_levels(s):
        found["tree"] = lambda: tree(s)
    layout = run.layout
    if layout is not None:
        found["map"] = lambda: map_facts(layout)
    return found


def _json(value: Any) -> Answer:
    return Answer(as_json(value).encode("ascii"), JSON)

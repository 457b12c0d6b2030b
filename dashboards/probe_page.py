"""A report of probes as one HTML file that opens without network, light or dark as the reader's system is."""

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards.bundle import read_web
from dashboards.packing import as_json
from dashboards.probe_view import (
    SPLIT_TITLES,
    accuracy_figure,
    confusion_figure,
    description_figure,
    direction_figure,
    erasure_figure,
    selectivity_figure,
    short_site,
    sparse_figure,
)
from dashboards.theme import DARK, LIGHT, Theme
from probes import probe_results as results
from probes.probe_results import ProbeReport, score_text

_TABLE = (
    results.LOGISTIC,
    results.CONTROL,
    results.SELECTIVITY,
    results.MEAN_DIFFERENCE,
    results.IN_DISTRIBUTION,
    results.NONLINEAR,
)
_SPLITS = {
    "document": "Held out by document: words of the held-out text may have been seen in training.",
    "word": "Held out by document and word: no held-out word was trained on. Nobody can know the control label of a "
    "new word, so selectivity and description length are told for the split by document.",
}
_DESCRIPTION = (
    "How many times shorter the labels are once the activations are known (online code, Voita & Titov 2020). 1 is no "
    "gain over a uniform code. Dashed: control labels, a class drawn for each word."
)
_DIRECTIONS = (
    "Cosine between directions: the mean of a class less the mean of all classes of its attribute; of two classes the "
    "second less the first."
)
_ERASURE = (
    "Probes trained anew on what is left, so that nothing hides in a direction that the first probe did not use. "
    "LEACE promises chance for linear probes on the fitted examples; dotted is the commonest class."
)
_TEXTS = (
    "Held-out texts, drawn by seed. Colour is the probability of the chosen class; underlined tokens are of it. Tokens "
    "that carry no class of the attribute are scored too: what the probe says of them means little."
)


def probe_page(report: ProbeReport) -> str:
    """Tables, figures and texts of a report."""
    figures = dict(_figures(report))
    drawn = {
        name: {theme: json.loads(figure.to_json()) for theme, figure in both.items()} for name, both in figures.items()
    }
    told = {"figures": drawn, "texts": [_text(one) for one in report.texts]}
    body = "".join(_sections(report, figures))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Probes</title>'
        f"<style>{_style()}</style></head><body>{body}"
        f"<script>{get_plotlyjs()}</script>"
        f'<script type="application/json" id="told">{as_json(told)}</script>'
        f"<script>{read_web('probes.js')}</script></body></html>\n"
    )


def _figures(report: ProbeReport) -> Iterator[tuple[str, dict[str, go.Figure]]]:
    for attribute in report.attributes:
        yield f"accuracy {attribute}", _both(lambda theme, a=attribute: accuracy_figure(report, a, theme))
    if any(row.probe == results.SELECTIVITY for row in report.rows):
        yield "selectivity", _both(lambda theme: selectivity_figure(report, theme))
    if report.descriptions:
        yield "description", _both(lambda theme: description_figure(report, theme))
    for confusion in _shown_confusions(report):
        name = f"confusion {confusion.attribute}, {SPLIT_TITLES[confusion.split]}"
        yield name, _both(lambda theme, c=confusion: confusion_figure(c, theme))
    for directions in report.directions:
        yield "directions", _both(lambda theme, d=directions: direction_figure(d, theme))
    if report.erasures:
        yield "erasure", _both(lambda theme: erasure_figure(report, theme))
    for attribute in report.attributes:
        if any(row.attribute == attribute and row.n_inputs for row in report.rows):
            yield f"sparse {attribute}", _both(lambda theme, a=attribute: sparse_figure(report, a, theme))


def _both(draw: Any) -> dict[str, go.Figure]:
    themes: tuple[Theme, ...] = (LIGHT, DARK)
    return {theme.name: draw(theme) for theme in themes}


def _shown_confusions(report: ProbeReport) -> list[results.Confusion]:
    """Of each attribute and split the one at the hook that the report looks at more closely."""
    close = {row.attribute: row.site for row in report.erasures}
    site = report.directions[0].site if report.directions else report.sites[-1].name
    shown = (one for one in report.confusions if one.site == close.get(one.attribute, site))
    return sorted(shown, key=lambda one: report.attributes.index(one.attribute))


def _sections(report: ProbeReport, figures: dict[str, Any]) -> Iterator[str]:
    data = report.about["data"]
    model = str(report.about["model"]["name"]).rstrip("/")
    yield f"<h1>Probes of {html.escape(', '.join(report.attributes))}</h1>"
    yield _paragraph(
        f"{model[-60:]}: {data['n_places']:,} labelled places in {data['n_texts']:,} texts of "
        f"{data['n_documents']:,} documents, {len(report.sites)} sites. Brackets and whiskers are 95% intervals that "
        "resample documents."
    )
    for attribute in report.attributes:
        yield f"<h2>{html.escape(attribute)}</h2>{_place(f'accuracy {attribute}')}"
        for split in report.splits[attribute]:
            yield _paragraph(f"{_SPLITS[split]} {_counts(report, attribute, split)}")
            yield _table(report, attribute, split)
    for name, title, text in (
        ("selectivity", "Selectivity", "Accuracy less that on the control task (Hewitt & Liang 2019), same examples."),
        ("description", "Description length", _DESCRIPTION),
    ):
        if name in figures:
            yield f"<h2>{title}</h2>{_paragraph(text)}{_place(name)}"
    yield from _grid("Confusions", "confusion ", figures)
    if "directions" in figures:
        at = short_site(report.directions[0].site)
        yield f"<h2>Directions</h2>{_paragraph(f'{_DIRECTIONS} At {at}.')}{_place('directions')}"
    if "erasure" in figures:
        yield f"<h2>Erasure</h2>{_paragraph(_ERASURE)}{_place('erasure')}{_erasures(report)}"
    wide = any(site.is_dictionary for site in report.sites)
    yield from _grid("Sparse probes", "sparse ", figures, wide=wide)
    if report.texts:
        yield f'<h2>Tokens</h2>{_paragraph(_TEXTS)}<div id="texts"></div>'
    yield f"<h2>Provenance</h2>{_provenance(report)}"


def _grid(title: str, prefix: str, figures: dict[str, Any], *, wide: bool = False) -> Iterator[str]:
    names = [name for name in figures if name.startswith(prefix)]
    if names:
        cells = "".join(f"<div><h3>{html.escape(n.removeprefix(prefix))}</h3>{_place(n)}</div>" for n in names)
        yield f'<h2>{title}</h2><div class="{"stack" if wide else "grid"}">{cells}</div>'


def _place(name: str) -> str:
    return f'<div class="figure" data-figure="{html.escape(name, quote=True)}"></div>'


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _counts(report: ProbeReport, attribute: str, split: str) -> str:
    about = report.splits[attribute][split]
    dropped = about["dropped_classes"]
    base = (
        f"{name} {score_text(rows[0].score)}"
        for name in (results.MAJORITY, results.BAG_OF_TOKENS)
        if (rows := report.find(attribute, split, name))
    )
    few = f" Classes with too few examples: {', '.join(f'{k} {n}' for k, n in dropped.items())}." if dropped else ""
    return (
        f"{about['n_train']:,} examples of {about['n_train_words']:,} words in {about['n_train_documents']} documents "
        f"to train on, {about['n_test']:,} of {about['n_test_words']:,} in {about['n_test_documents']} held out, of "
        f"which {about['share_of_test_with_a_trained_word']:.0%} have a trained word; shared documents "
        f"{about['n_shared_documents']}. Without activations: {', '.join(base)}.{few}"
    )


def _table(report: ProbeReport, attribute: str, split: str) -> str:
    probes = [probe for probe in _TABLE if report.find(attribute, split, probe)]
    codes = {
        row.site: row.length
        for row in report.descriptions
        if split == "document" and (row.attribute, row.of) == (attribute, results.LABELS)
    }
    head = ["", *probes, *(["compression", "gain over labels alone"] if codes else [])]

    def cells(site: str) -> Iterator[str]:
        yield short_site(site)
        for probe in probes:
            yield next((score_text(row.score) for row in report.find(attribute, split, probe, site=site)), "–")
        if codes:
            yield from (score_text(codes[site].compression), score_text(codes[site].gain)) if site in codes else "––"

    return _html_table(head, (list(cells(site.name)) for site in report.sites))


def _erasures(report: ProbeReport) -> str:
    head = ["", "at", "removed", "linear, fitted", "linear, held out", "nonlinear, held out", "moved (mean square)",
            "cross-covariance, fitted", "held out"]  # fmt: skip
    rows = (
        [
            f"{row.attribute}: {row.method}", short_site(row.site), str(row.n_removed), score_text(row.fitted),
            score_text(row.held_out), score_text(row.nonlinear), f"{row.mean_square_change:.4g}",
            f"{row.cross_covariance:.2g}", f"{row.held_out_cross_covariance:.2g}",
        ]
        for row in report.erasures
    )  # fmt: skip
    return _html_table(head, rows)


def _html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _text(one: results.ScoredText) -> dict[str, Any]:
    named = ("attribute", "document", "classes", "tokens", "labels", "probabilities")
    return {name: getattr(one, name) for name in named} | {"site": short_site(one.site)}


def _provenance(report: ProbeReport) -> str:
    about = report.about
    model = about["model"]
    facts = {
        "model": f"{model['name']} ({str(model['content_hash'])[:12]})",
        **{name: str(about[name]) for name in ("command", "created_utc", "commit") if about.get(name)},
        "data": ", ".join(f"{name} {value}" for name, value in about["data"].items()),
        "settings": json.dumps(about.get("config", {}), ensure_ascii=False),
    }
    lines = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items())
    return f"<dl>{lines}</dl>"


def _style() -> str:
    return f":root{{{_colours(LIGHT)}}}@media(prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}" + read_web(
        "probes.css"
    )


def _colours(theme: Theme) -> str:
    named = ("background", "panel", "ink", "muted", "line", "accent")
    return "".join(f"--{name}:{getattr(theme, name)};" for name in named) + f"--activation:{theme.activation};"

"""Two sets of texts contrasted: effect against evidence, the strongest features with their intervals, their tokens."""

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from dashboards.analysis_page import AnalysisPage, EvidencePart, FigurePart, TablePart, render_analysis
from dashboards.theme import LIGHT, Theme, template
from probes.contrast import LEVEL, Contrast, ContrastRow, Evidence, row_cells
from probes.document_activations import Context


def volcano_figure(found: Contrast, theme: Theme = LIGHT) -> go.Figure:
    """Cohen's d against p, a point for each feature tested; coloured are discoveries, more in A to the right."""
    figure = go.Figure()
    groups = {
        "not told from chance": (theme.muted, [row for row in found.rows if row.q > LEVEL]),
        "more in A": (theme.up, [row for row in found.rows if row.q <= LEVEL and _d(found, row) > 0]),
        "more in B": (theme.down, [row for row in found.rows if row.q <= LEVEL and _d(found, row) <= 0]),
    }
    for name, (colour, rows) in groups.items():
        held = [row for row in rows if math.isfinite(_d(found, row))]
        figure.add_scatter(
            x=[_d(found, row) for row in held], y=[row.p for row in held], mode="markers", name=name,
            marker={"color": colour, "size": 6, "opacity": 0.6},
            customdata=[[row.feature, row.q] for row in held],
            hovertemplate="feature %{customdata[0]}: d %{x:.2f}, p %{y:.2g}, q %{customdata[1]:.2g}<extra></extra>",
        )  # fmt: skip
    limit = max((abs(_d(found, row)) for row in found.rows if math.isfinite(_d(found, row))), default=1.0) * 1.05
    figure.update_xaxes(title_text="Cohen's d over documents: B more ← 0 → A more", range=[-limit, limit])
    figure.update_yaxes(
        title_text="permutation p (log)", type="log", autorange="reversed", exponentformat="power", dtick=1
    )
    figure.add_vline(x=0, line={"color": theme.line, "width": 1})
    figure.update_layout(template=template(theme), showlegend=True, margin={"l": 64, "r": 20, "t": 36, "b": 44})
    return figure


def effects_figure(found: Contrast, theme: Theme = LIGHT) -> go.Figure:
    """AUC of the strongest features with its 95% interval over documents; a half is no difference."""
    rows = _shown(found)
    labels = [f"{row.feature}" for row in rows]
    values = [_auc(found, row) for row in rows]
    between = [row.auc_interval or (value, value) for row, value in zip(rows, values, strict=True)]
    colours = [theme.muted if row.q > LEVEL else theme.up if value > 0.5 else theme.down
               for row, value in zip(rows, values, strict=True)]  # fmt: skip
    figure = go.Figure()
    for index, (value, (low, high), colour) in enumerate(zip(values, between, colours, strict=True)):
        figure.add_scatter(
            x=[low, high], y=[index, index], mode="lines", line={"color": colour, "width": 2}, hoverinfo="skip"
        )
        figure.add_scatter(
            x=[value], y=[index], mode="markers", marker={"color": colour, "size": 9},
            hovertemplate=f"feature {labels[index]}: {value:.3f} ({low:.3f} to {high:.3f})<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": theme.muted, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="AUC: chance that a document of A has more of it than one of B", range=[-0.03, 1.03])
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=labels, autorange="reversed", title_text="feature", showgrid=False
    )
    return figure.update_layout(template=template(theme), margin={"l": 64, "r": 20, "t": 8, "b": 44})


def _shown(found: Contrast) -> list[ContrastRow]:
    """The features that were looked at more closely."""
    return [row for row in found.rows if row.auc_interval is not None]


def _d(found: Contrast, row: ContrastRow) -> float:
    return row.d_mean if found.by == "mean" else row.d_max


def _auc(found: Contrast, row: ContrastRow) -> float:
    return row.auc_mean if found.by == "mean" else row.auc_max


def contrast_page(found: Contrast) -> str:
    """A contrast as one page."""
    about = found.provenance
    what = str(about.get("what", "features"))
    shown = _shown(found)
    has = {one.feature for one in found.evidence}
    head = "Strongest tokens: the documents of each set in which the feature goes highest, one token of each."
    page = AnalysisPage(
        name="Contrast",
        about=" · ".join((str(about.get("model", {}).get("name", "")), str(about.get("hook", "")), what)),
        lead=_lead(found, what),
        headline=[
            ("found", f"{found.n_discoveries:,} of {len(found.rows):,}"),
            ("documents", f"{found.n_documents[0]:,} and {found.n_documents[1]:,}"),
        ],
        parts=[
            FigurePart("effects", f"The {len(shown)} strongest", "95% intervals over documents",
                       lambda theme: effects_figure(found, theme), 60 + 22 * max(len(shown), 3)),
            FigurePart("volcano", "All that were tested", f"coloured: at a false-discovery rate of {LEVEL:.0%}",
                       lambda theme: volcano_figure(found, theme), 360),
            TablePart("table", "The strongest", "A feature leads to its tokens.", _COLUMNS,
                      [row_cells(row, found.by) for row in shown],
                      leads=[f"feature-{row.feature}" if row.feature in has else None for row in shown]),
            EvidencePart("evidence", "Tokens in context", head, [_evidence(found, one) for one in found.evidence]),
        ],
        command=str(about.get("command", "")),
        provenance=[(key, str(value)) for key, value in _provenance(about).items() if value not in (None, "", "[]")],
    )  # fmt: skip
    return render_analysis(page)


_COLUMNS = ("feature", "d", "AUC (95%)", "fires in A", "fires in B", "p", "q")


def _lead(found: Contrast, what: str) -> str:
    (n_a, n_b), (t_a, t_b) = found.n_documents, found.n_tokens
    told = (
        f"A is {found.names[0]}: {n_a:,} documents of {t_a / n_a:.1f} tokens. B is {found.names[1]}: {n_b:,} "
        f"documents of {t_b / n_b:.1f} tokens. Of {found.n_features:,} {what}, {len(found.rows):,} fire in enough "
        f"documents to be tested by their {found.by} over a document's tokens; {found.n_discoveries:,} separate the "
        "sets, of which 5% at most are expected to be chance. p: documents dealt out anew between the sets."
    )
    small = f" So few documents can give no p under {found.least_p:.2g}: no single one could have been found."
    return told + (small if found.is_too_small else "")


def _evidence(found: Contrast, one: Evidence) -> dict[str, Any]:
    row = next(row for row in found.rows if row.feature == one.feature)
    contexts = [("A", context) for context in one.a] + [("B", context) for context in one.b]
    strongest = max((context.value for _, context in contexts), default=1.0)
    d = _d(found, row)
    size = "no spread" if math.isnan(d) else f"d {d:+.2f}"
    return {
        "id": f"feature-{one.feature}",
        "title": f"{one.feature}",
        "note": f"{size}, AUC {_auc(found, row):.3f}, q {row.q:.2g}",
        "contexts": [_context(found, side, context, strongest) for side, context in contexts],
    }


def _context(found: Contrast, side: str, context: Context, strongest: float) -> dict[str, Any]:
    return {
        "side": side,
        "value": context.value,
        "document": context.document,
        "position": context.position,
        "peak": context.peak,
        "tokens": [[token, found.vocabulary.get(token, "")] for token in context.token_ids],
        "acts": [round(act, 5) for act in context.acts],
        "strongest": strongest if strongest > 0 else 1.0,
    }


def _provenance(about: Mapping[str, Any]) -> dict[str, Any]:
    model = about.get("model", {})
    keys = (
        "source",
        "architecture",
        "hook",
        "mask_policy",
        "context_size",
        "draws",
        "least_documents",
        "seed",
        "commit",
    )
    pairs = zip("AB", about.get("texts", []), strict=False)
    texts = {f"text {side}": f"{one['name']} {one['content_hash']}" for side, one in pairs}
    named = {"model": model.get("name"), "model hash": model.get("content_hash")}
    return {**named, **texts, **{key: about.get(key) for key in keys}}

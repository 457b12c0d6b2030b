"""A run's codes, and steering by them, as HTML files that open without network."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dashboards.analysis_page import AnalysisPage, EvidencePart, FigurePart, Part, TablePart, render_analysis
from dashboards.codebook_view import books_figure, detection_figure, grid_figure, steering_figure, transition_figure
from interp.codebooks.inspected import Inspection, detected_rows
from interp.codebooks.inspection import CodeContext, CodeFacts, Counted, transition_matrix
from interp.codebooks.measured import told
from interp.codebooks.prompt_grid import PromptGrid
from interp.codebooks.record import CodeRecord
from interp.codebooks.steered import COLUMNS, DEFINED, CodeSteering

N_TRANSITIONS = 24


def codebook_page(result: Inspection, grid: PromptGrid, record: CodeRecord) -> str:
    """What a run's codes are about, as one HTML file."""
    codes, neurons = (result.median_auc(found) for found in (result.code_detection, result.neuron_detection))
    n_books = len(result.books)
    dead = float(np.mean([book.dead_share for book in result.books])) if n_books else math.nan
    page = AnalysisPage(
        name=f"Codebooks: {result.run}",
        about=f"{result.model} · {n_books} codebooks · {result.provenance.get('codebooks at', '')}",
        lead=(
            f"At each token a few codes stand for each activation. Looked at on {result.n_tokens:,} tokens of "
            f"{result.text}. A code is named layer.site.group.code; the group is the head."
        ),
        headline=[
            ("codes never active", f"{dead:.1%}"),
            ("detection AUC, codes", told(codes)),
            ("neurons", told(neurons)),
        ],
        parts=[
            FigurePart("grid", "Codes on a prompt", _GRID, partial(grid_figure, grid), 110 + 24 * len(grid.books)),
            *_judged_parts(result),
            FigurePart("detection", "Codes drawn by seed, beside neurons", f"{_DETECTION}{_whose(result)}",
                       partial(detection_figure, result), 220),
            TablePart("drawn", "The drawn codes", "All, in the order of the draw; a code leads to its contexts.",
                      DRAWN_COLUMNS, drawn_rows(result), text=(0, 3, 4, 5),
                      leads=[f"code-{one.unit}" for one in result.code_detection]),
            FigurePart("books", "Use of the codebooks", _BOOKS, partial(books_figure, result), 300),
            TablePart("codes", "The commonest codes", "A code leads to its contexts.", _CODE_COLUMNS,
                      [_code_row(result, code) for code in _common(result)], text=(0, 4, 5, 6),
                      leads=[f"code-{code.name}" for code in _common(result)]),
            *_transition_parts(result, record),
            TablePart("together", "Codes at the same token", _TOGETHER, ("codes", "tokens", "lift"),
                      [(f"{pair.first} + {pair.second}", f"{pair.count:,}", f"{pair.lift:.1f}")
                       for pair in result.co_use]),
            EvidencePart("contexts", "Codes in context", _CONTEXTS,
                         [code_evidence(result, code) for code in result.codes]),
        ],
        command=str(result.provenance.get("command", "")),
        provenance=[(key, str(value)) for key, value in result.provenance.items() if key != "command"],
    )  # fmt: skip
    return render_analysis(page)


_GRID = (
    "The most similar code of each codebook at each token; hover for all active ones. The stronger the colour, the "
    "rarer the code on other text."
)
_DETECTION = (
    "A detector scores a token by the share of its occurrences, in 24 windows around firings in even documents, at "
    "which the unit fires; judged on odd documents. Neurons are cut where they fire as often as the codes."
)
_BOOKS = "Perplexity: as many equally common codes would have the same entropy."
_TOGETHER = (
    "Pairs of neighbouring codebooks; lift is how many times as often as by chance. Sorted by count times the "
    "logarithm of lift."
)
_CHANGES = "From one code to another, sorted by count times the logarithm of lift; a code that stays is left out."
_CONTEXTS = "Tokens at which the code is active are marked; contexts are drawn by seed from different documents."
_CODE_COLUMNS = ("code", "active on", "tokens", "entropy, bits", "on", "before (lift)", "raises")
DRAWN_COLUMNS = ("code", "active on", "AUC", "on", "before (lift)", "raises")


def _judged_parts(result: Inspection) -> list[Part]:
    if not result.detected:
        return []
    columns = ("", "code", "precision", "recall", "neuron", "its precision", "tokens")
    note = (
        "Chosen on even documents, judged on odd ones; the neuron is cut at the code's recall, either sign."
        f"{_whose(result)}"
    )
    return [TablePart("judged", "Best code and best neuron", note, columns, detected_rows(result), text=(0, 1, 4))]


def _whose(result: Inspection) -> str:
    return f" Neurons are those of {result.neurons_of}." if result.neurons_of else ""


def _common(result: Inspection) -> list[CodeFacts]:
    return sorted(result.codes, key=lambda code: -code.count)[:40]


def drawn_rows(result: Inspection) -> list[tuple[str, ...]]:
    """Cells of DRAWN_COLUMNS, a row for each code drawn by seed."""
    by_name = {code.name: code for code in result.codes}
    rows: list[tuple[str, ...]] = []
    for one in result.code_detection:
        code = by_name[one.unit]
        auc = told(one.auc)
        rows.append((one.unit, f"{one.share:.3%}", auc, *_words(result, code)))
    return rows


def _code_row(result: Inspection, code: CodeFacts) -> tuple[str, ...]:
    counts = (f"{code.share:.3%}", f"{code.count:,}", f"{code.token_entropy_bits:.2f}")
    return (code.name, *counts, *_words(result, code))


def _words(result: Inspection, code: CodeFacts) -> tuple[str, str, str]:
    def told(counted: Sequence[Counted], *, lift: bool) -> str:
        return "  ".join(
            f"{_plain(result, one.token_id)} {one.share:.0%}" + (f" ({one.lift:.1f}×)" if lift else "")
            for one in counted[:3]
        )

    raises = "  ".join(_plain(result, token) for token in code.raises[:4])
    return told(code.fires_on, lift=False), told(code.followed_by, lift=True), raises


def _plain(result: Inspection, token: int) -> str:
    return result.vocabulary.get(token, "").replace(" ", "␣").replace("\n", "↵")


def _transition_parts(result: Inspection, record: CodeRecord) -> list[Part]:
    """The codebook whose codes follow each other most predictably, as a figure."""
    if not record.books:
        return []
    weight = {name: sum(pair.weight for pair in held) for name, held in result.transitions.items()}
    best = max(record.books, key=lambda book: weight[book.name])
    codes = np.argsort(-best.counts(), kind="stable")[:N_TRANSITIONS].tolist()
    names = [str(best.code(code)) for code in codes]
    matrix = transition_matrix(record, best, codes)
    rows = [
        (f"{pair.first} → {pair.second}", f"{pair.count:,}", f"{pair.lift:.1f}")
        for pair in result.transitions[best.name]
    ]
    note = f"The {len(codes)} commonest codes of {best.name}: how often a code of the next token follows."
    return [
        FigurePart("transitions", "From a token to the next", note,
                   partial(transition_figure, matrix, names, book=best.name), 460),
        TablePart("changes", f"Changes in {best.name}", _CHANGES, ("codes", "times", "lift"), rows),
    ]  # fmt: skip


def code_evidence(result: Inspection, code: CodeFacts, *, prefix: str = "code") -> dict[str, Any]:
    """A code's contexts for an EvidencePart; ids begin with the prefix, so that codes of several runs share a page."""
    fires = ", ".join(_plain(result, one.token_id) for one in code.fires_on[:3])
    return {
        "id": f"{prefix}-{code.name}",
        "title": code.name,
        "note": f"active on {code.share:.3%}: {fires}",
        "contexts": [_context(context, result.vocabulary) for context in code.contexts],
    }


def _context(context: CodeContext, vocabulary: Mapping[int, str]) -> dict[str, Any]:
    return {
        "side": "text",
        "value": 1.0,
        "document": context.document,
        "position": context.position,
        "peak": context.peak,
        "tokens": [[token, vocabulary.get(token, "")] for token in context.token_ids],
        "acts": [float(active) for active in context.active],
        "strongest": 1.0,
    }


def code_steering_page(result: CodeSteering) -> str:
    """Steering by codes as one HTML file."""
    texts = [("steered", text) for text in result.texts] + [("unsteered", text) for text in result.unsteered_texts]
    page = AnalysisPage(
        name="Steering by " + (result.codes[0] if len(result.codes) == 1 else f"{len(result.codes)} codes"),
        about=f"{result.provenance.get('base model', '')} · at {result.where} tokens",
        lead=(
            f"{result.n_texts} texts were written behind {result.prompt!r}, sampled at temperature 1, with the codes "
            f"active; a success matches {result.pattern!r}. Random codes come from the same codebooks and are about as "
            f"frequent; no set is drawn twice. Each text has {result.new_tokens} tokens."
        ),
        headline=[
            ("success", f"{result.steered.success:.0%}"),
            ("unsteered", f"{result.unsteered.success:.0%}"),
            ("p", told(result.p)),
            ("distance to the pattern", told(result.steered.toward)),
        ],
        parts=[
            FigurePart("trade-off", "Success and its cost", _TRADE, partial(steering_figure, result), 380),
            TablePart("figures", "With and without", DEFINED, COLUMNS, result.rows()),
            TablePart("chance", "Against random codes", _CHANCE, ("", ""), list(result.shown().items()), text=(0, 1)),
            TablePart("texts", "Texts", f"Behind {result.prompt!r}.", ("", "goes on with"), texts, text=(0, 1)),
        ],
        command=str(result.provenance.get("command", "")),
        provenance=[(key, str(value)) for key, value in result.provenance.items() if key != "command"],
    )
    return render_analysis(page)


_TRADE = "Perplexity is what the model without steering gives to the texts that were written."
_CHANCE = (
    "p: share of sets of random codes that have at least as many successes, or come as near to the pattern, the codes "
    "themselves counted in."
)

"""What `tests.peers.conformance` found, as a document: a matrix of formats and architectures, and every case."""

from dataclasses import dataclass

from saes.formats.saelens import REFUSED

WRITTEN, FORMULA = "we write, it reads", "formula"
ARCHITECTURES = {
    "skip": "skip transcoder", "transcoder": "transcoder", "gated": "gated", "matryoshka": "matryoshka",
    "batch": "batch_topk", "jumprelu": "jumprelu", "groupmax": "group_max", "topk": "topk", "": "standard",
}  # fmt: skip
"""What a case's name contains -> the column it stands in; the first that fits."""
OTHERS = {
    "saelens": "SAELens", "dictionary_learning": "dictionary_learning", "sparsify": "sparsify",
    "gemma_scope": "SAELens's loader", "llama_scope": "SAELens's loader", "openai": FORMULA,
}  # fmt: skip
"""Format -> what stands on the other side, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One cell: largest difference of feature values and of outputs, and features that fire for one side only.

    Units: absolute, for values of order one.
    """

    format: str
    case: str
    direction: str
    other: str
    encode: float
    decode: float
    n_other_features: int


def markdown(found: list[Agreement]) -> str:
    """The matrix, one line a cell."""
    lines = [
        "| format | architecture | direction | other side | feature values | outputs | other features |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cell in sorted(found, key=lambda cell: (list(OTHERS).index(cell.format), cell.direction != WRITTEN, cell.case)):
        numbers = f"{cell.encode:.1e} | {cell.decode:.1e} | {cell.n_other_features}"
        lines.append(f"| {cell.format} | {cell.case} | {cell.direction} | {cell.other} | {numbers} |")
    return "\n".join(lines)


def matrix(found: list[Agreement]) -> str:
    """Format × architecture: the largest difference of any case, reading and writing."""
    columns = list(dict.fromkeys(reversed(ARCHITECTURES.values())))
    lines = [f"| format | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for layout in OTHERS:
        mine = [cell for cell in found if cell.format == layout]
        cells = [_cell([cell for cell in mine if architecture_of(cell.case) == column]) for column in columns]
        lines.append(f"| {layout} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: list[Agreement]) -> str:
    said = []
    for word, here in (
        ("read", [cell for cell in found if cell.direction != WRITTEN]),
        ("write", [cell for cell in found if cell.direction == WRITTEN]),
    ):
        if here:
            said.append(f"{word} {max(max(cell.encode, cell.decode) for cell in here):.0e}")
    return ", ".join(said) or "–"


def architecture_of(case: str) -> str:
    """The column of the matrix that a case belongs to."""
    return next(column for part, column in ARCHITECTURES.items() if part in case.lower())


def document(found: list[Agreement]) -> str:
    """benchmarks/CONFORMANCE.md."""
    worst = max(max(cell.encode, cell.decode) for cell in found)
    return f"""# Conformance with other libraries

`python -m tests.peers.conformance` makes this file; `pytest -m peers` holds it. 200 random tokens of width
16, 24 features, float32, values of order one; each library in an environment of its own (SAELens 6.54,
dictionary_learning 0.1, sparsify 1.3). The numbers are the largest absolute differences of feature values and of
outputs, and how many (token, feature) pairs fire for one side only. Largest of all: {worst:.1e}, which is what another
order of summing makes.

{matrix(found)}

All cases. Of what both read, both name the same hooks. "formula": no package to install reads such a file, so it is
compared with published formulas, written out once more in `tests/golden/make.py`. What we write is SAELens 6 alone;
group-max SAEs and TopK transcoders are nothing it knows and are refused.

{markdown(found)}

Refused when read, each with its reason: {refused()}.
"""


def refused() -> str:
    """What is not read, and why."""
    ours = {
        "head-specific SAEs": "one head's columns only",
        "signed latents of sparsify": "they fire negatively too",
        "Gemma Scope embedding SAEs": "they read embeddings before their scaling",
        "cross-layer transcoders": "they write to several layers",
        "transcoders of models with centred writing weights": "the means of their two hooks are lost",
        "covariance_whitening": "only unfinished training checkpoints have it",
        "revisions of models, and rewritten weights at the hooks that they change": "this model has other activations",
        "pickled objects": "they would have to be run",
    }
    return "; ".join(f"{what} ({why})" for what, why in {**REFUSED, **ours}.items())

"""Two sets of texts through one model: features of an SAE, or the neurons of a hook, contrasted."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dashboards.tokens import token_texts
from interp.datasets import DataConfig, MaskPolicy, TokenStream
from interp.documents import Documents
from interp.errors import ConfigError, DataError
from interp.models import Model, load_model
from interp.runs import source_commit, this_command
from interp.texts import Texts, Unit, open_texts
from probes.contrast import (
    By,
    Contrast,
    ContrastRow,
    Evidence,
    auc_interval,
    contrast_rows,
    ids_in,
    smallest_p,
)
from probes.document_activations import (
    DocumentActivations,
    Encode,
    document_activations,
    strongest_contexts,
)
from probes.permutation import MOST_DRAWS
from saes import open_sae

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """What encodes: `encode` makes dense features of the activations of `hooks`, side by side."""

    model: Model
    hooks: tuple[str, ...]
    encode: Encode
    n_features: int
    rows: DataConfig
    facts: dict[str, Any]


def sae_source(path: Path | str, *, model_name: str | None = None, device: str = "auto") -> Source:
    """Features of a run, or of an SAE of any known format, on the rows and with the masks that it was trained on.

    Raises: ArtifactError if it cannot be opened.
    """
    opened = open_sae(path, model_name=model_name, device=device)
    about = {"what": "features", "source": str(path), "architecture": opened.facts.architecture}

    def encode(x: Float[Tensor, "b d"]) -> Float[Tensor, "b f"]:
        return opened.sae.encode(x).dense()

    return Source(opened.model, opened.sae.hooks_in, encode, opened.sae.d_sae, opened.rows, about)


def neuron_source(model_name: str, hook: str, *, device: str = "auto") -> Source:
    """The coordinates of a hook as they are.

    Raises: UnknownHookError if the model has no such hook.
    """
    model = load_model(model_name, device=device)
    width = model.hook(hook).width
    rows = DataConfig(context_size=min(DataConfig().context_size, model.context_size))
    return Source(model, (hook,), lambda x: x, width, rows, {"what": "neurons", "source": f"{model.name} {hook}"})


def run_contrast(
    source: Source,
    names: tuple[str, str],
    *,
    by: By = "mean",
    unit: Unit = "line",
    text_field: str = "text",
    roles: Sequence[str] = (),
    least_documents: int = 3,
    draws: int = MOST_DRAWS,
    top: int = 20,
    contexts: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Contrast:
    """Contrast the texts of two files; the `top` features get intervals and their strongest tokens in context.

    Raises: DataError if a set has fewer than two documents with usable tokens; ConfigError if both are the same.
    """
    if names[0] == names[1]:
        raise ConfigError(f"got {names[0]} twice; give two sets of texts")
    texts = [open_texts(name, unit=unit, text_field=text_field) for name in names]
    rows = _apart(source.rows if not roles else _of_roles(source.rows, roles))
    streams = [_stream(text, source.model, rows) for text in texts]
    if streams[0].documents.content_hash == streams[1].documents.content_hash:
        raise ConfigError(f"got the same texts in {names[0]} and {names[1]}; give two sets of texts")
    sides = [
        document_activations(source.model, stream, source.hooks, source.encode, tell=_told(progress, text))
        for stream, text in zip(streams, texts, strict=True)
    ]
    a, b = sides
    found = contrast_rows(a, b, by=by, least_documents=least_documents, most_draws=draws, seed=seed)
    shown = [_with_interval(row, a, b, by) for row in found[:top]]
    evidence = _evidence(source, streams, [row.feature for row in shown], contexts)
    tokens = ids_in(evidence).tolist()
    return Contrast(
        names=names,
        n_documents=(a.document.size, b.document.size),
        n_tokens=(int(a.n_tokens.sum()), int(b.n_tokens.sum())),
        by=by,
        n_features=source.n_features,
        rows=(*shown, *found[top:]),
        least_p=smallest_p(a, b, most_draws=draws),
        evidence=evidence,
        vocabulary=dict(zip(tokens, _token_texts(source.model, tokens), strict=True)),
        provenance=_provenance(source, texts, streams, seed=seed, draws=draws, least_documents=least_documents),
    )


def _apart(rows: DataConfig) -> DataConfig:
    """Documents that would see those before them in their row stand in rows of their own: the test deals them out."""
    return DataConfig.parse(rows.model_dump() | {"rows": "padded"}) if rows.rows == "joined" else rows


def _of_roles(rows: DataConfig, roles: Sequence[str]) -> DataConfig:
    mask = MaskPolicy.parse(rows.mask.model_dump() | {"roles": tuple(roles)})
    return DataConfig.parse(rows.model_dump() | {"mask": mask.model_dump()})


def _stream(texts: Texts, model: Model, rows: DataConfig) -> TokenStream:
    held = list(texts)
    if sum(1 for text in held if text.strip()) < 2:
        raise DataError(f"{texts.name}: got {len(held)} documents; expected at least two (see --unit)")
    digest = hashlib.sha256("\0".join(held).encode()).hexdigest()
    documents = Documents(texts.name, digest, lambda _: (({}, text) for text in held))
    return TokenStream(documents, model, rows, split="all")


def _told(progress: Progress | None, texts: Texts) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda done: progress(texts.name, done, max(texts.n_documents or 0, done))


def _with_interval(row: ContrastRow, a: DocumentActivations, b: DocumentActivations, by: By) -> ContrastRow:
    one, two = (side.mean if by == "mean" else side.peak for side in (a, b))
    values = np.concatenate([one[:, row.feature], two[:, row.feature]])
    first = np.arange(values.size) < one.shape[0]
    return replace(row, auc_interval=auc_interval(values, first, seed=row.feature))


def _evidence(source: Source, streams: Sequence[TokenStream], features: Sequence[int], n: int) -> tuple[Evidence, ...]:
    if not features or n < 1:
        return ()
    a, b = (strongest_contexts(source.model, stream, source.hooks, source.encode, features, n=n) for stream in streams)
    return tuple(Evidence(feature, tuple(a[feature]), tuple(b[feature])) for feature in features)


def _token_texts(model: Model, tokens: Sequence[int]) -> list[str]:
    written = token_texts(model.tokenizer)
    return [written[token] if token < len(written) else "" for token in tokens]


def _provenance(
    source: Source, texts: Sequence[Texts], streams: Sequence[TokenStream], **settings: Any
) -> dict[str, Any]:
    data = [
        {"name": text.name, "content_hash": stream.documents.content_hash}
        for text, stream in zip(texts, streams, strict=True)
    ]
    rows = streams[0].facts
    kept = ("context_size", "rows", "prepend_bos", "mask_policy")
    return {
        **source.facts,
        "model": source.model.facts,
        "hook": ", ".join(source.hooks),
        "texts": data,
        **{name: rows[name] for name in kept},
        **settings,
        "command": this_command(),
        "commit": source_commit(),
    }

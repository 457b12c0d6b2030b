"""Steering with what is at hand: an SAE's run or a model, a direction, held-out text, prompts of one's own.

Axes: n tokens, d width of the hook, p prompts, v vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.code import FeatureDictionary
from interp.datasets import DataConfig, TokenStream, open_stream
from interp.directions import (
    Direction,
    covariance_matched,
    feature_direction,
    mean_difference,
    random_decoder_rows,
)
from interp.errors import ConfigError, DataError
from interp.forward import last_outputs
from interp.models import Model, load_model
from interp.outcomes import LOGIT_DIFFERENCE, Outcome
from interp.prompt_files import read_prompts
from interp.prompts import Prompts
from interp.side_effects import neutral_rows
from interp.steered_text import steered_texts
from interp.steering import Progress, adding, dose_response, reach
from interp.steering_results import DoseResponse
from interp.token_text import token_text
from saes import open_sae
from saes.token_sample import iter_sample

STRENGTHS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
"""Shares of the typical distance of the activations at the hook from their mean."""
N_PROMOTED = 10
COVARIANCE, DECODER = "covariance-matched", "random decoder rows"
_ROWS, _ROW_TOKENS, _CHOOSING = 48, 24, 16
_BATCH_TOKENS = 1024
_TEXT_STRENGTHS = 2


@dataclass(frozen=True, slots=True)
class SteeringPlace:
    """A model, the SAE if there is one, and held-out text."""

    model: Model
    dictionary: FeatureDictionary | None
    stream: TokenStream

    @staticmethod
    def of(run: Path | None, *, model_name: str | None = None, dataset: str | None = None) -> "SteeringPlace":
        """From an SAE's run or folder, or from a model alone.

        Raises: ConfigError for neither; what `open_sae` and `load_model` raise.
        """
        if run is None:
            if model_name is None:
                raise ConfigError("got neither RUN nor --model; give an SAE's run folder, or the model to steer")
            model = load_model(model_name)
            rows = DataConfig(batch_tokens=_BATCH_TOKENS, context_size=min(256, model.context_size))
            return SteeringPlace(model, None, open_stream(dataset or "embedded", model, rows, split="heldout"))
        opened = open_sae(run, model_name=model_name)
        rows = DataConfig.parse(opened.rows.model_dump() | {"batch_tokens": _BATCH_TOKENS})
        name = dataset or str(opened.facts.data.get("dataset", "embedded"))
        return SteeringPlace(opened.model, opened.sae, open_stream(name, opened.model, rows, split="heldout"))

    def sample(self, hook: str, n_tokens: int, *, seed: int) -> Float[Tensor, "n d"]:
        """Activations of held-out tokens."""
        batches = iter_sample(self.stream, n_tokens, seed=seed)
        return torch.cat([harvest_batch(self.model, batch, (hook,)).acts[hook] for batch in batches])

    def texts(self, n: int) -> list[str]:
        """The first held-out documents."""
        rows = (batch.token_ids[i] for batch in self.stream.iter_pass() for i in range(batch.token_ids.shape[0]))
        tokenizer = self.model.tokenizer
        return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in islice(rows, n)]

    def direction(
        self,
        *,
        feature: int | None = None,
        file: Path | None = None,
        toward: Path | None = None,
        away: Path | None = None,
        hook: str | None = None,
    ) -> Direction:
        """The one direction that was asked for.

        Raises: ConfigError for none or several, a feature without an SAE, or a mean difference without a hook.
        """
        asked = [feature is not None, file is not None, toward is not None or away is not None]
        if sum(asked) != 1:
            raise ConfigError(
                f"got {sum(asked)} directions; give one of --feature N, --direction FILE, or --toward with --away"
            )
        if feature is not None:
            if self.dictionary is None:
                raise ConfigError("--feature: got no RUN; give the folder of the SAE that the feature belongs to")
            return feature_direction(self.dictionary, feature)
        if file is not None:
            return Direction.load(file)
        if toward is None or away is None:
            raise ConfigError("got one side of a mean difference; give both --toward and --away")
        where = hook or (self.dictionary.hooks_out[0] if self.dictionary is not None else None)
        if where is None:
            raise ConfigError("got a mean difference without a hook; give --hook, such as blocks.2.hook_resid_post")
        sides = [read_prompts(self.model, str(path)) for path in (toward, away)]
        return mean_difference(self.model, where, *sides)


@dataclass(frozen=True, slots=True)
class SteerSettings:
    """How a direction is steered and what it is held against."""

    strengths: tuple[float, ...] = STRENGTHS
    raw: bool = False
    n_controls: int = 100
    n_texts: int = 2
    sample_tokens: int = 4000
    position: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if len(set(self.strengths)) < 2:
            raise ConfigError(f"strengths: got {list(self.strengths)}; expected at least two that differ")


def steer_run(
    place: SteeringPlace,
    direction: Direction,
    settings: SteerSettings,
    *,
    prompts: tuple[Prompts, Outcome] | None = None,
    command: str = "",
    on_progress: Progress | None = None,
) -> DoseResponse:
    """Steer along a direction, scaled to the activations unless `raw`, with side effects, controls and texts.

    Without prompts the outcome is how far the tokens rise that the direction raises most on other text.

    Raises: what its parts raise.
    """
    model = place.model
    direction.check_fits(model)
    acts = place.sample(direction.hook, settings.sample_tokens, seed=settings.seed)
    if not settings.raw:
        direction = direction.with_norm(typical_distance(acts))
    texts = place.texts(_ROWS + 100)
    scored, outcome = prompts or promoted_outcome(model, direction, texts, settings)
    continued = steered_texts(
        model,
        direction,
        _beginnings(scored, texts, settings.n_texts),
        strengths=_told_strengths(settings.strengths),
    )
    return dose_response(
        model,
        direction,
        scored,
        outcome,
        strengths=settings.strengths,
        controls=_controls(place, direction, acts, settings),
        position=_position(settings.position),
        neutral=neutral_rows(model, texts, n_rows=8, n_tokens=48),
        texts=continued,
        provenance={
            "model": model.name,
            "content_hash": model.content_hash,
            "text": place.stream.documents.name,
            "seed": settings.seed,
            "command": command,
        },
        on_progress=on_progress,
    )


def typical_distance(acts: Float[Tensor, "n d"]) -> float:
    """Mean distance of activations from their mean: what strength 1 adds."""
    return float((acts - acts.mean(0)).norm(dim=1).mean())


def promoted_outcome(
    model: Model, direction: Direction, texts: Sequence[str], settings: SteerSettings
) -> tuple[Prompts, Outcome]:
    """Held-out prompts, and the mean logit of the tokens that the direction raises most on other ones.

    Logits are taken less their mean over the vocabulary.
    """
    rows = neutral_rows(model, texts, n_rows=_ROWS, n_tokens=_ROW_TOKENS)
    n_choosing = min(_CHOOSING, len(rows) // 2)
    choosing, scored = rows.take(slice(0, n_choosing)), rows.take(slice(n_choosing, len(rows)))
    keep = reach(model, choosing, _position(settings.position))
    most = max(settings.strengths)
    with torch.no_grad():
        before = last_outputs(model, choosing)
        edits = {direction.hook: adding(direction.vector[None] * most, keep)}
        after = last_outputs(model, choosing, edits)
    promoted = (_centred(after) - _centred(before)).mean(0).topk(N_PROMOTED).indices
    words = ", ".join(repr(token_text(model.tokenizer, token)) for token in promoted.tolist()[:3])
    name = f"mean logit of {N_PROMOTED} tokens it raises ({words}, …)"
    return scored, Outcome(name, "logits", lambda outputs, _: _centred(outputs)[:, promoted].mean(1))


def _centred(logits: Float[Tensor, "p v"]) -> Float[Tensor, "p v"]:
    return logits - logits.mean(1, keepdim=True)


def load_prompts(
    model: Model, path: Path, *, answer: str | None = None, foil: str | None = None
) -> tuple[Prompts, Outcome]:
    """Prompts of `read_prompts` that all have an answer and a foil; scored by logit difference.

    Raises: DataError for a file that holds none, or prompts without answer and foil.
    """
    prompts = read_prompts(model, str(path), answer=answer, foil=foil)
    if prompts.answers is None or prompts.foils is None:
        raise DataError(f"{path}: got prompts without answer or foil; give them, or --answer and --foil")
    return prompts, LOGIT_DIFFERENCE


def _controls(
    place: SteeringPlace, direction: Direction, acts: Float[Tensor, "n d"], settings: SteerSettings
) -> dict[str, Float[Tensor, "c d"]]:
    controls = {COVARIANCE: covariance_matched(acts, settings.n_controls, seed=settings.seed)}
    held = place.dictionary
    if held is not None and held.hooks_out == (direction.hook,):
        own = tuple(_same(held, direction).tolist())
        controls[DECODER] = random_decoder_rows(held, settings.n_controls, exclude=own, seed=settings.seed)
    return controls


def _same(dictionary: FeatureDictionary, direction: Direction) -> Int[Tensor, " m"]:
    """Features that write along the very direction."""
    every = dictionary.directions(torch.arange(dictionary.d_sae)).detach()
    cosine = torch.nn.functional.cosine_similarity(every, direction.vector[None].to(every), dim=1)
    return (cosine.abs() > 1 - 1e-5).nonzero()[:, 0]


def _beginnings(prompts: Prompts, texts: Sequence[str], n: int) -> list[str]:
    return list(prompts.texts[:n]) if prompts.texts else [" ".join(text.split()[:8]) for text in texts[:n]]


def _told_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    """The model as it is, and the middle and the strongest one on each side."""
    up = sorted(s for s in strengths if s > 0)[-_TEXT_STRENGTHS:]
    down = sorted(s for s in strengths if s < 0)[:_TEXT_STRENGTHS]
    return (*down, 0.0, *up)


def _position(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text

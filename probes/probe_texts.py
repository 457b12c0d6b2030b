"""Every token of a text scored by a probe, and how the directions of all classes lie to each other.

Axes: t position, d width, c classes.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from interp.hooks import capture
from interp.models import Model
from probes.linear import LinearProbe
from probes.mean_difference import fit_mean_difference
from probes.probe_activations import EncodedText, ProbeData, encode_text, padded
from probes.probe_labels import LabelledText
from probes.probe_results import DirectionMap, ScoredText
from probes.probe_tasks import ProbeTask

_FEWEST_TOKENS = 8


def held_out_texts(
    model: Model, texts: Sequence[LabelledText], *, share: float, n: int, seed: int
) -> list[LabelledText]:
    """Texts of held-out documents, of some length, drawn by seed and never picked by hand."""
    fitting = [
        text
        for text in texts
        if text.is_held_out(share)
        and _FEWEST_TOKENS <= len(encode_text(model, text.text).token_ids) <= model.context_size
    ]
    return random.Random(seed).sample(fitting, min(n, len(fitting)))


def scored_text(model: Model, text: LabelledText, probe: LinearProbe, task: ProbeTask, hook: str) -> ScoredText:
    """What a logistic probe says of each token, beside the labels that the text carries."""
    row = encode_text(model, text.text)
    token_ids, mask = padded(model, [row.token_ids])
    acts = capture(model, token_ids, [hook], attention_mask=None if model.causal else mask)[hook][0]
    probabilities = np.exp(probe.log_probabilities(acts.double().cpu().numpy()))
    real = [at for at, (start, end) in enumerate(row.spans) if end > start]
    return ScoredText(
        attribute=task.attribute,
        site=hook,
        document=text.document[:80],
        classes=task.classes,
        tokens=tuple(_pieces(text.text, row, real)),
        labels=tuple(_label(text, row.spans[at], task) for at in real),
        probabilities=tuple(tuple(round(p, 4) for p in probabilities[at].tolist()) for at in real),
    )


def _pieces(text: str, row: EncodedText, real: Sequence[int]) -> Iterator[str]:
    """The text cut before each token, so that the pieces put together are the text."""
    starts = [row.spans[at][0] for at in real]
    ends = [*starts[1:], len(text)]
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        yield text[0 if index == 0 else start : end]


def _label(text: LabelledText, span: tuple[int, int], task: ProbeTask) -> str:
    """The label of the place that the token is the last one of."""
    for place in text.places:
        if place.start < span[1] and span[0] < place.end <= span[1]:
            return place.labels.get(task.attribute, "")
    return ""


def direction_map(data: ProbeData, tasks: Sequence[ProbeTask], site: str) -> DirectionMap:
    """Cosines of the mean-difference directions of every class of every task, of two classes the second's alone."""
    x = data.acts[site].numpy()
    named: dict[str, Float[ndarray, " d"]] = {}
    for task in tasks:
        probe = fit_mean_difference(x[task.train], task.y[task.train], n_classes=len(task.classes))
        named |= dict(_named(task, probe.weight))
    unit = np.stack([each / max(float(np.linalg.norm(each)), 1e-300) for each in named.values()])
    return DirectionMap(site, tuple(named), tuple(map(tuple, np.round(unit @ unit.T, 4).tolist())))


def _named(task: ProbeTask, weight: Float[ndarray, "c d"]) -> Mapping[str, Float[ndarray, " d"]]:
    chosen = range(1, 2) if len(task.classes) == 2 else range(len(task.classes))
    return {f"{task.attribute}: {task.classes[index]}": weight[index] for index in chosen}

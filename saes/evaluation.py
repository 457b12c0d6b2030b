"""What a dictionary explains and what it costs the language model, with intervals over documents.

Axes: n kept tokens, d width of the hooks that are written, side by side.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.code import FeatureDictionary
from interp.models import Model
from saes.arm_losses import iter_slices
from saes.facts import SAEFacts, check_same_origin
from saes.hook_layout import hook_columns
from saes.scores import ArmScore as ArmScore
from saes.scores import CrossEntropy as CrossEntropy
from saes.scores import Evaluation as Evaluation
from saes.scores import HookScore as HookScore
from saes.scores import PrefixScore as PrefixScore
from saes.tally import Baseline, Tally
from saes.token_sample import TokenSource, iter_sample

Progress = Callable[[str, int, int], None]
"""Called with what is being done, tokens done and tokens in all."""


def evaluate(
    model: Model,
    sae: FeatureDictionary,
    source: TokenSource,
    *,
    n_tokens: int,
    seed: int = 0,
    facts: SAEFacts | None = None,
    allow_mismatch: bool = False,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Score an SAE, a transcoder, a crosscoder or any other dictionary on about `n_tokens` kept tokens.

    Two passes over the same batches. The first takes the mean activation and the median norm; the second runs the model
    clean, zeroed, with the mean, with the dictionary's output and with that of each of its prefixes, at one hook after
    the other. Of an encoder, which predicts no next token, the second pass only takes the activations; so it does of a
    crosscoder of two models, each of which would lose something else.

    Raises: ArtifactError if `facts` name another model or mask policy, unless `allow_mismatch`; UnknownHookError for a
    hook the model lacks; ShapeError if the dictionary has another width than its hooks; DataError if there is no usable
    token or the activations do not vary.
    """
    if facts is not None and not allow_mismatch:
        check_same_origin(facts, model, source)
    hooks = tuple(dict.fromkeys((*sae.hooks_in, *sae.hooks_out)))
    tally = Tally(model, sae, _baseline(model, sae.hooks_out, source, n_tokens, seed, on_progress))
    for batch in iter_sample(source, n_tokens, seed=seed):
        if tally.predicts:
            for part in iter_slices(batch, model.d_vocab):
                if part.n_kept:
                    tally.add(part)
        else:
            tally.add_activations(harvest_batch(model, batch, hooks))
        if on_progress:
            on_progress("evaluate", tally.firing.n_tokens, tally.baseline.n_tokens)
    return tally.evaluation(source, seed, architecture=None if facts is None else facts.architecture)


def _baseline(
    model: Model, hooks: tuple[str, ...], source: TokenSource, n_tokens: int, seed: int, on_progress: Progress | None
) -> Baseline:
    columns = hook_columns(model, hooks)
    total = torch.zeros(sum(model.hook(hook).width for hook in hooks), dtype=torch.float64)
    norms: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    n_seen = 0
    for batch in iter_sample(source, n_tokens, seed=seed):
        acts = harvest_batch(model, batch, hooks)
        for hook, part in columns.items():
            total[part] += acts.acts[hook].double().sum(0).cpu()
            norms[hook].append(torch.linalg.vector_norm(acts.acts[hook].float(), dim=1).cpu())
        n_seen += len(acts)
        if on_progress:
            on_progress("mean activation", n_seen, n_tokens)
    medians = tuple(float(torch.cat(parts).median()) for parts in norms.values())
    return Baseline(n_seen, total / n_seen, medians)

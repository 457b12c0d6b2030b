"""`interp baseline`: a sample of a run's training stream -> a finished run folder that holds a baseline.

Axes: n sampled tokens, d width of the activations.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.recording import ProgressLines
from interp.runs import RunFolder, RunManifest, nothing_left
from saes.baselines import TITLES, Baseline, Kind, fit_baseline
from saes.io import save_sae
from saes.origin import Origin, open_origin
from saes.train_config import TrainConfig
from saes.training import shuffled


def run_baseline(kind: Kind, config: TrainConfig, *, n_tokens: int) -> RunFolder:
    """Fit a baseline to the first `n_tokens` (at most config.tokens) that training by `config` would see, and save it.

    Of config.sae, k and d_sae count. The folder's own config has what came of them, and the tokens used. What fails
    leaves no run behind.

    Raises: any InterpError.
    """
    run = RunFolder(config.out)
    run.check_free()
    if len(config.all_hooks) > 1:
        raise ConfigError(
            f"got hooks {', '.join(config.all_hooks)}; a baseline has one; leave hook_out, more_hooks out"
        )
    origin = open_origin(config)
    sample = _sample(config, origin, min(n_tokens, config.tokens))
    with ProgressLines(f"fit {TITLES[kind]}", None) as progress:
        progress.say(f"{sample.shape[0]:,} tokens of width {sample.shape[1]:,}")
        size = {"k": config.sae.k, "d_sae": config.sae.d_sae, "seed": config.seed}
        baseline = fit_baseline(kind, sample, hooks=config.hooks_in, **size)
    return _written(baseline, config, origin, n_tokens=sample.shape[0])


def _sample(config: TrainConfig, origin: Origin, n_tokens: int) -> Float[Tensor, "n d"]:
    sample, n = torch.empty(n_tokens, origin.source.widths[config.hook]), 0
    with ProgressLines("sample", n_tokens) as progress:
        for batch in shuffled(config, origin):
            x = batch.acts[config.hook][: n_tokens - n]
            sample[n : n + x.shape[0]] = x.cpu()
            n += x.shape[0]
            progress.show(n, "tokens")
            if n == n_tokens:
                break
    return sample


def _written(baseline: Baseline, config: TrainConfig, origin: Origin, *, n_tokens: int) -> RunFolder:
    used = {"sae": baseline.sae.config, "tokens": n_tokens, "batch_size": min(config.batch_size, n_tokens)}
    manifest = RunManifest.begin("sae", seed=config.seed, model=origin.model, data=origin.recorded_data())
    facts = {
        "baseline": baseline.kind,
        "model": manifest.model,
        "data": manifest.data,
        "seed": config.seed,
        "training_tokens": n_tokens,
    }
    results = {"architecture": TITLES[baseline.kind], "baseline": baseline.kind, **baseline.facts}
    with nothing_left(Path(config.out)):
        run = RunFolder.begin(config.out, config.model_copy(update=used), manifest)
        save_sae(run.sae, baseline.sae, facts)
        run.write_manifest(manifest.model_copy(update={"status": "finished", "results": results}))
    return run

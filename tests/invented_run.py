"""A small invented run folder, so that pages are tested without training anything. Its numbers mean nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dashboards.decoder_layout import DecoderLayout
from dashboards.layout_file import save_layout
from dashboards.tokens import VOCABULARY_FILE
from interp.config import Config
from interp.runs import RunFolder, RunManifest
from interp.storage import read_json, write_json
from saes.feature_files import HEAD_FILE, save_features
from saes.feature_statistics import FeatureStatistics
from saes.feature_windows import Windows

STORY = """Once upon a time there was little girl named Lily . She loved to play in the park with her dog Spot One day
they saw big red ball and Tom said that he wanted it too The cat sad because lost its toy kind bird flew down do not be
Mia Ben were happy friends ran river jumped splashed cold water mom dad smiled gave him small yellow flower"""
HOSTILE = (
    "</script><script>window.injected=1</script>", "<br>", "&lt;", "<img src=x onerror=window.injected=1>",
    "a\u2028b\u2029c", "\u202etfel ot thgir", "\u200fשלום", "مرحبا", "x" * 5000, "\x00\x07\x1b[31m", "\ud83d", "⟨E2⟩",
    "\n\n\t", "", "${summary}", "]]>", "<!--", "é́́́́", "\ufeff\u200b",
)  # fmt: skip
TRAINING_DATA = {
    "dataset": "embedded",
    "content_hash": "90ce" * 16,
    "split": {"by": "document hash", "heldout_share": 0.05, "used": "train"},
}
N_BINS = 60
N_BANDS, PER_BAND = 5, 5
N_RELATED = 10


class InventedSettings(Config):
    """Config of the invented run."""

    model: str = "embedded"
    dataset: str = "embedded"
    hook: str = "blocks.2.hook_resid_post"
    tokens: int = 4_000_000
    seed: int = 0
    sae: dict[str, Any]


def make_run(
    folder: Path, *, d_sae: int = 64, n_examples: int = 8, window: int = 32, hostile: bool = False, seed: int = 0
) -> Path:
    """Write every file of a finished Matryoshka run."""
    rng = np.random.default_rng(seed)
    prefixes = [max(1, d_sae >> halvings) for halvings in (4, 3, 2, 1, 0)]
    settings = InventedSettings(sae={"architecture": "matryoshka", "d_sae": d_sae, "k": 32, "prefixes": prefixes})
    manifest = RunManifest.begin(
        "sae",
        seed=seed,
        model={"name": "embedded", "family": "llama", "content_hash": "5b1f" * 16},
        data=TRAINING_DATA,
    ).model_copy(update={"command": "interp train configs/quickstart.yaml --out runs/invented", "status": "finished"})
    run = RunFolder.begin(folder, settings, manifest)
    texts = vocabulary(hostile)
    statistics = invented_features(rng, len(texts), prefixes, n_examples, window)
    save_features(run.features, statistics)
    collected_from(run.features, TRAINING_DATA)
    (run.features / VOCABULARY_FILE).write_text(json.dumps(texts))
    save_layout(run.features, invented_layout(rng, statistics))
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in training_rows(rng, prefixes)))
    write_json(run.evaluation_path, evaluation(prefixes))
    return folder


def collected_from(features: Path, data: Mapping[str, Any]) -> None:
    """Write down from which text the features are."""
    head = read_json(features / HEAD_FILE)
    settings = {"n_tokens": 200_000, "window": 32}
    about = {"model": {"name": "embedded"}, "sae": {"content_hash": "77aa" * 16}, "data": data, "settings": settings}
    write_json(features / HEAD_FILE, head | {"provenance": about})


def vocabulary(hostile: bool) -> list[str]:
    """Token texts: stories' words with their space; the hostile ones first, so that they are everywhere."""
    words = [word if word in (".", "Once") else f" {word}" for word in dict.fromkeys(STORY.split())]
    return [*(HOSTILE if hostile else ()), *words, "\n", ",", "'s", "ing"]


def invented_features(
    rng: np.random.Generator, n_words: int, prefixes: list[int], n_examples: int, window: int
) -> FeatureStatistics:
    """Feature statistics of the right shapes: log-normal densities, one in thirty dead, windows from one text."""
    d_sae = prefixes[-1]
    density = np.minimum(10 ** rng.normal(-2.8, 0.8, d_sae), 0.4)
    density[rng.random(d_sae) < 1 / 30] = 0.0
    dead = density == 0
    text = rng.integers(0, n_words, (400, 200))
    strongest = np.where(dead, 0, rng.lognormal(1.8, 0.5, d_sae)).astype(np.float32)
    shares = np.sort(rng.dirichlet(np.ones(8), d_sae), axis=1)[:, :-6:-1]
    raised = np.sort(np.abs(rng.normal(0, 1, (d_sae, 10))), axis=1)[:, ::-1]
    lowered = -np.sort(np.abs(rng.normal(0, 1, (d_sae, 10))), axis=1)[:, ::-1]
    edges = np.logspace(-2.5, 1.5, N_BINS + 1)
    level = np.searchsorted(prefixes, np.arange(d_sae), side="right") + 1
    shape = (strongest[:, None] * np.linspace(0.05, 1.0, N_BANDS + 1)).astype(np.float32)
    bands = np.repeat((shape[:, 1:] * 0.8), PER_BAND, axis=1)
    return FeatureStatistics(
        n_tokens=200_000, n_documents=400, d_sae=d_sae, n_coactivation_tokens=200_000, density=density,
        density_interval=np.stack([density * 0.94, density * 1.06], axis=1),
        max_activation=strongest, mean_activation=strongest * 0.35,
        histogram=histograms(rng, density, strongest, edges), bin_edges=edges, quantile_edges=shape,
        top=windows(rng, text, strongest[:, None] * np.linspace(1.0, 0.6, n_examples), window),
        random=windows(rng, text, strongest[:, None] * rng.random((d_sae, 10)), window),
        quantile=windows(rng, text, bands, window),
        raised_tokens=some_tokens(rng, n_words, d_sae, 10), raised_logits=raised.astype(np.float32),
        lowered_tokens=some_tokens(rng, n_words, d_sae, 10), lowered_logits=lowered.astype(np.float32),
        firing_tokens=np.where(dead[:, None], -1, some_tokens(rng, n_words, d_sae, 5)),
        firing_token_share=np.where(dead[:, None], 0, shares),
        level=level, **related(rng, d_sae, dead), **family(rng, level, dead), **aucs(rng, dead),
    )  # fmt: skip


def windows(rng: np.random.Generator, text: np.ndarray, values: np.ndarray, width: int) -> Windows:
    """A window per value around a place drawn from the text; none where the value is zero."""
    values = values.astype(np.float32)
    document = rng.integers(0, len(text), values.shape)
    start = rng.integers(0, text.shape[1] - width, values.shape)
    tokens = text[document[..., None], start[..., None] + np.arange(width)]
    peak = np.full(values.shape, width * 2 // 3)
    acts = np.where(rng.random(tokens.shape) < 0.06, rng.random(tokens.shape) * values[..., None] * 0.9, 0)
    np.put_along_axis(acts, peak[..., None], values[..., None], axis=2)
    tokens[values == 0] = -1
    return Windows(
        values=values, tokens=tokens.astype(np.int32), acts=acts.astype(np.float16), peak=peak.astype(np.int32),
        document=document, position=(start + peak).astype(np.int32),
    )  # fmt: skip


def related(rng: np.random.Generator, d_sae: int, dead: np.ndarray) -> dict[str, np.ndarray]:
    """Partners and neighbours: the next features round the dictionary; the dead have no partner."""
    others = (np.arange(d_sae)[:, None] + np.arange(1, N_RELATED + 1)) % d_sae
    falling = np.sort(rng.random((d_sae, N_RELATED)), axis=1)[:, ::-1].astype(np.float32)
    return {
        "partners": np.where(dead[:, None], -1, others), "partner_count": np.full_like(others, 12),
        "partner_given_feature": falling, "feature_given_partner": falling / 2, "partner_lift": 1 + 9 * falling,
        "partner_correlation": falling / 3, "neighbours": others, "neighbour_cosine": falling ** 2,
    }  # fmt: skip


def family(rng: np.random.Generator, level: np.ndarray, dead: np.ndarray) -> dict[str, np.ndarray]:
    """A parent for most features of later levels, drawn from the level before; children to match."""
    d_sae = len(level)
    parents, children = np.full((d_sae, 2), -1), np.full((d_sae, 20), -1)
    n_children = np.zeros(d_sae, dtype=np.int64)
    for feature in np.flatnonzero((level > 1) & ~dead & (rng.random(d_sae) < 0.8)):
        parent = int(rng.choice(np.flatnonzero(level == level[feature] - 1)))
        parents[feature, 0] = parent
        if n_children[parent] < 20:
            children[parent, n_children[parent]] = feature
            n_children[parent] += 1
    up, down = (ids >= 0 for ids in (parents, children))
    return {
        "parents": parents, "parent_cosine": np.where(up, 0.41, 0.0), "parent_given_feature": np.where(up, 0.83, 0.0),
        "feature_given_parent": np.where(up, 0.07, 0.0), "children": children,
        "child_cosine": np.where(down, 0.41, 0.0), "child_given_feature": np.where(down, 0.07, 0.0),
        "feature_given_child": np.where(down, 0.83, 0.0),
    }  # fmt: skip


def aucs(rng: np.random.Generator, dead: np.ndarray) -> dict[str, np.ndarray]:
    """AUCs of the three kinds; detection is not measured for one feature in ten."""
    token, bigram, detection = 0.5 + 0.5 * rng.random((3, len(dead)))
    detection[rng.random(len(dead)) < 0.1] = np.nan
    return {
        name: np.where(dead, np.nan, values)
        for name, values in (("token_auc", token), ("bigram_auc", bigram), ("detection_auc", detection))
    }


def invented_layout(rng: np.random.Generator, statistics: FeatureStatistics) -> DecoderLayout:
    """Places drawn at random for the features that fire."""
    x, y = np.where(statistics.density > 0, rng.normal(0, 4, (2, statistics.d_sae)), np.nan)
    return DecoderLayout(x, y, kept=0.21, kept_by_pca=0.02, kept_by_chance=0.002)


def some_tokens(rng: np.random.Generator, n_words: int, n: int, k: int) -> np.ndarray:
    """k different token ids per feature."""
    return rng.random((n, n_words)).argsort(axis=1)[:, :k]


def histograms(rng: np.random.Generator, density: np.ndarray, strongest: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts of log-normal firing values below each feature's maximum."""
    counts = np.zeros((len(density), N_BINS), dtype=np.int64)
    for feature, (share, top) in enumerate(zip(density, strongest, strict=True)):
        n = min(int(share * 200_000), 4_000)
        values = np.minimum(top * 0.3 * rng.lognormal(0, 0.6, n), top)
        counts[feature] = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return counts


def training_rows(rng: np.random.Generator, prefixes: list[int]) -> list[dict[str, float]]:
    """Curves that fall and level off."""
    rows = []
    for step in range(20, 2001, 20):
        fall = 0.14 + 0.9 * np.exp(-step / 180) + rng.normal(0, 0.004)
        rows.append(
            {
                "step": step, "n_tokens": step * 2048, "loss": fall * 3,
                "lr": 3e-4 * min(1, step / 200, (2000 - step) / 400),
                "grad_norm": 0.4 + np.exp(-step / 300) + abs(rng.normal(0, 0.03)), "explained_variance": 1 - fall,
                "l0": 32 + rng.normal(0, 0.2), "dead": int(120 * (1 - np.exp(-step / 700))), "threshold": 0.4,
                "tokens_per_s": 14_000 + rng.normal(0, 400), "seconds_harvest": 1.1, "seconds_shuffle": 0.2,
                "seconds_update": 1.9 + rng.random() / 5,
            }
            | {f"loss_prefix_{width}": fall * (1.6 - 0.15 * place) for place, width in enumerate(prefixes)}
        )  # fmt: skip
    return [{key: float(value) for key, value in row.items()} for row in rows]


def evaluation(prefixes: list[int]) -> dict[str, Any]:
    """An evaluation.json with null arms."""
    return {
        "schema_version": 1, "n_tokens": 98_304, "n_documents": 412, "explained_variance": 0.861, "fvu": 0.139,
        "l0": 32.1, "dead_share": 0.031, "dense_share": 0.004, "explained_variance_interval": [0.852, 0.869],
        "ce": {"clean": 1.312, "zero": 6.207, "mean": 5.118, "sae": 1.421, "delta": 0.109,
               "delta_interval": [0.101, 0.118], "recovered_vs_zero": 0.978, "recovered_vs_mean": 0.971, "kl": 0.096},
        "prefixes": [
            {"width": width, "explained_variance": 0.861 - 0.07 * (4 - place), "l0": 32.1 * (place + 1) / 5,
             "ce_delta": 0.109 * 1.9 ** (4 - place), "kl": 0.096 * 1.8 ** (4 - place)}
            for place, width in enumerate(prefixes)
        ],
        "sinks": {"ratio": 10.0, "median_norm": 11.8, "n_sinks": 512, "explained_variance_with": 0.861,
                  "explained_variance_without": 0.848},
        "null_arms": {
            "random_model": {"explained_variance": 0.774, "l0": 32.4, "dead_share": 0.12, "ce_delta": 0.011, "kl": 0.01,
                             "recovered_vs_zero": None, "recovered_vs_mean": None},
            "frozen_decoder": {"explained_variance": 0.522, "l0": 31.8, "dead_share": 0.0, "ce_delta": 0.84, "kl": 0.8,
                               "recovered_vs_zero": 0.83, "recovered_vs_mean": 0.79},
        },
        "mask_policy": {"mask_bos": True, "mask_special": True}, "model_hash": "5b1f" * 16,
        "data": TRAINING_DATA | {"split": {"by": "document hash", "heldout_share": 0.05, "used": "heldout"}},
    }  # fmt: skip

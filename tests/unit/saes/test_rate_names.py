"""Runs have one name if, and only if, they are seeds of one dictionary: every setting but the seed is the same."""

from pathlib import Path

import pytest

from saes.rate_names import dictionary_names
from saes.train_config import TrainConfig

PLAIN = "topk k4 of 64"


def config(seed=0, **more):
    sae = {"architecture": "topk", "k": 4, "d_sae": 64}
    return TrainConfig.parse({"hook": "blocks.2.hook_resid_post", "sae": sae, "seed": seed, **more})


def names(*configs, plain=None):
    paths = [Path(f"runs/{index}") for index in range(len(configs))]
    return dictionary_names(plain or [PLAIN] * len(configs), configs, paths)


def test_seeds_of_one_dictionary_share_its_plain_name_wherever_they_were_written():
    assert names(config(0, out="runs/a"), config(1, out="runs/b")) == [PLAIN, PLAIN]


@pytest.mark.parametrize(
    "more",
    [
        {"harvest": {"prefetch": 3}},
        {"harvest": {"compile": True}},
        {"recording": {"log_every": 7, "checkpoint_every": 9, "keep_checkpoints": 1}},
        {"data": {"overlap_documents": 0}},
        {"device": "cpu", "model_device": "cpu"},
        {"model": "./embedded", "dataset": "./embedded"},
    ],
)
def test_what_changes_no_figure_of_the_dictionary_sets_no_seeds_apart(more):
    assert names(config(0), config(1, **more)) == [PLAIN, PLAIN]
    lrs = names(config(0), config(1, **more), config(0, schedule={"lr": 3e-3}))
    assert lrs == [f"{PLAIN}, lr3e-4"] * 2 + [f"{PLAIN}, lr3e-3"]


@pytest.mark.parametrize(
    "more",
    [{"dtype": "bfloat16"}, {"data": {"batch_tokens": 256}}, {"randomise_model": 0}, {"sae": {"encoder_scale": 0.5}}],
)
def test_what_changes_figures_does(more):
    sae = {"architecture": "topk", "k": 4, "d_sae": 64, **more.get("sae", {})}
    assert len(set(names(config(0), config(1, **{**more, "sae": sae})))) == 2


def test_a_seed_of_shuffling_is_not_taken_for_the_runs():
    told = names(config(0), config(1, shuffle={"seed": 0}))
    assert told == [f"{PLAIN}, shuffle.seedNone", f"{PLAIN}, shuffle.seed0"]


def test_where_no_setting_tells_dictionaries_apart_the_folder_of_the_first_run_does():
    """A topk SAE has no groups; of two words that a folder's name cannot tell apart neither is told."""
    sae = {"architecture": "topk", "k": 4, "d_sae": 64, "n_groups": 2}
    told = names(config(0), config(1), config(0, sae=sae), config(1, sae=sae))
    assert told == [f"{PLAIN}, runs/0"] * 2 + [f"{PLAIN}, runs/2"] * 2
    told = names(config(0, warm_start="a/b"), config(0, warm_start="a b"), config(0, warm_start="c"))
    assert told == [f"{PLAIN}, warm-starta-b, runs/0", f"{PLAIN}, warm-starta-b, runs/1", f"{PLAIN}, warm-startc"]


def test_a_folder_stands_for_one_run_or_for_one_dictionary():
    """Where a seed is there twice in one of two dictionaries that nothing tells apart, its others keep their name."""
    sae = {"architecture": "topk", "k": 4, "d_sae": 64, "n_groups": 2}
    told = names(config(0), config(0), config(1), config(2), config(0, sae=sae))
    assert told == [f"{PLAIN}, runs/{index}" for index in (0, 1, 2, 2, 4)]


def test_another_seed_with_fewer_tokens_is_no_seed_of_it():
    assert names(config(0, tokens=100_000), config(1, tokens=9_000_000)) == [
        f"{PLAIN}, tokens100000", f"{PLAIN}, tokens9000000",
    ]  # fmt: skip


def test_seeds_are_found_at_every_learning_rate():
    grid = [config(seed, schedule={"lr": lr}) for lr in (1e-3, 3e-3) for seed in (0, 1)]
    assert names(*grid) == [f"{PLAIN}, lr1e-3"] * 2 + [f"{PLAIN}, lr3e-3"] * 2


def test_baselines_that_share_a_config_keep_the_names_that_tell_them_apart():
    plain = ["PCA k4 of 64", "ICA k4 of 64", "PCA k4 of 64"]
    assert names(config(0), config(0), config(1), plain=plain) == plain


def test_what_one_plain_name_differs_in_says_nothing_of_another():
    plain = [PLAIN, PLAIN, "topk k8 of 64"]
    told = names(config(0, tokens=100_000), config(0, tokens=200_000), config(0, tokens=300_000), plain=plain)
    assert told == [f"{PLAIN}, tokens100000", f"{PLAIN}, tokens200000", "topk k8 of 64"]


def test_a_seed_that_is_there_twice_counts_as_no_further_seed():
    assert names(config(0), config(0), config(1)) == [f"{PLAIN}, runs/0", f"{PLAIN}, runs/1", PLAIN]

"""Runs have one name if, and only if, they are seeds of one dictionary: every setting but the seed is the same."""

from pathlib import Path

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

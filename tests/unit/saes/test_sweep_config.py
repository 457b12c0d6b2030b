"""A grid is the product of its lists; members differ in nothing else, and are told apart by their names."""

import pytest
import yaml

from interp.errors import ConfigError
from saes.member_names import member_names
from saes.sweep_config import SHARED, SweepConfig
from saes.sweep_folder import MemberRecord, SweepRecord
from saes.sweep_pairs import NO_OTHER_DICTIONARY, seed_groups
from saes.train_config import TrainConfig

BASE = {"hook": "blocks.2.hook_resid_post", "tokens": "100k"}


def _sweep(grid, *, also=(), **base):
    return SweepConfig.parse({"base": {**BASE, **base}, "grid": grid, "also": list(also), "out": "runs/x"})


def test_members_are_the_product_of_the_lists():
    members = _sweep({"sae.k": [8, 16, 32], "seed": [0, 1]}).members()
    assert [(m.config.sae.k, m.config.seed) for m in members] == [(k, s) for k in (8, 16, 32) for s in (0, 1)]
    assert [m.name for m in members[:3]] == ["k8_s0", "k8_s1", "k16_s0"]
    assert str(members[0].config.out) == "runs/x/runs/k8_s0"


def test_further_members_stand_on_the_base():
    members = _sweep({"seed": [3, 4]}, also=[{"sae.architecture": "topk"}]).members()
    assert [(m.config.sae.architecture, m.config.seed) for m in members] == [
        ("matryoshka", 3),
        ("matryoshka", 4),
        ("topk", 3),
    ]
    assert [m.name for m in members] == ["matryoshka_s3", "matryoshka_s4", "topk_s3"]


def test_every_member_is_there_with_every_seed():
    config = _sweep({"sae.k": [8, 16]}, also=[{"sae.architecture": "topk"}])
    seeded = SweepConfig.parse({**config.model_dump(mode="json"), "seeds": [4, 1]})
    told = [(m.config.sae.architecture, m.config.sae.k, m.config.seed) for m in seeded.members()]
    every = [("matryoshka", 8), ("matryoshka", 16), ("topk", 8)]
    assert told == [(*one, seed) for one in every for seed in (4, 1)]
    assert len({m.name for m in seeded.members()}) == 6
    assert {m.config.shuffle.seed for m in seeded.members()} == {0}
    with pytest.raises(ConfigError, match="one place"):
        SweepConfig.parse({"base": BASE, "grid": {"seed": [0]}, "seeds": [0, 1]})
    with pytest.raises(ConfigError, match="two members"):
        SweepConfig.parse({"base": BASE, "grid": {"sae.k": [8]}, "seeds": [1, 1]})


def test_all_members_are_shuffled_alike():
    """By the base's seed, whatever the grid's seeds are, or as the base says."""
    assert {m.config.shuffle.seed for m in _sweep({"seed": [5, 6]}).members()} == {0}
    assert {m.config.shuffle.seed for m in _sweep({"seed": [5, 6]}, seed=2).members()} == {2}
    assert {m.config.shuffle.seed for m in _sweep({"seed": [5]}, shuffle={"seed": 9}).members()} == {9}


def test_what_is_written_down_reads_back_as_the_same():
    config = _sweep({"sae.k": [8, 16], "schedule.lr": [1e-3, 3e-4], "seed": [1, 0]}, also=[{"sae.k": 4}])
    again = SweepConfig.parse(yaml.safe_load(config.to_yaml()))
    assert again == config
    assert again.members() == config.members()


def test_a_setting_of_the_grid_need_not_stand_in_the_base():
    config = SweepConfig.parse({"base": {"tokens": "100k"}, "grid": {"hook": ["a", "b"]}})
    assert config.hooks == ("a", "b")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([{"sae.k": 8, "seed": 0}], ["sae"]),
        ([{"schedule.lr": 3e-4}, {"schedule.lr": 1e-3}], ["lr3e-4", "lr1e-3"]),
        ([{"hook": "blocks.2.hook_resid_post"}, {"hook": "blocks.10.attn.hook_z"}], ["L2.resid_post", "L10.attn.z"]),
        ([{"rescale": True}, {"rescale": False}], ["rescaleTrue", "rescaleFalse"]),
        ([{"warm_start": "a/b"}, {"warm_start": "a b"}], ["warm-starta-b-1", "warm-starta-b-2"]),
        (
            [
                {"sae.architecture": "topk", "sae.codebook_variant": "plain", "sae.n_stages": 4, "sae.levels": 8},
                {"sae.architecture": "codebook", "sae.codebook_variant": "plain", "sae.n_stages": 4, "sae.levels": 8},
                {
                    "sae.architecture": "codebook",
                    "sae.codebook_variant": "residual",
                    "sae.n_stages": 2,
                    "sae.levels": 8,
                },
                {"sae.architecture": "codebook", "sae.codebook_variant": "latent", "sae.n_stages": 4, "sae.levels": 2},
            ],
            ["topk", "codebook_plain", "codebook_residual_n-stages2", "codebook_latent_levels2"],
        ),
        ([{"seed": 1, "sae.d_sae": 64}, {"seed": 2, "sae.d_sae": 32}], ["d64_s1", "d32_s2"]),
    ],
)
def test_names_are_short_fit_for_folders_and_unique(settings, names):
    assert member_names(settings) == names


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"dataset": ["a", "b"]}, "stream"),
        ({"recording.log_every": [1, 2]}, "same steps"),
        ({"sae.K": [1]}, "sae.k"),
        ({"sae.k": []}, "expected a list"),
        ({"schedule.lr": [-1.0]}, "lr"),
    ],
)
def test_impossible_grids_are_told(grid, message):
    with pytest.raises(ConfigError, match=message):
        _sweep(grid)


def test_groups_differ_in_their_seed_alone():
    members = _sweep({"sae.k": [8, 16], "seed": [0, 1, 2]}).members()
    groups = seed_groups({m.name: m.config for m in members})
    assert groups == {"k8": ("k8_s0", "k8_s1", "k8_s2"), "k16": ("k16_s0", "k16_s1", "k16_s2")}


def test_what_makes_no_other_dictionary_is_the_same_for_all_members_anyway():
    assert {key.split(".")[0] for key in NO_OTHER_DICTIONARY} <= {*SHARED, "seed"}
    assert {key for key, _ in TrainConfig.leaves()} > NO_OTHER_DICTIONARY


def test_cost_by_hand():
    """Ten seconds of harvest, steps of 2 and 3 seconds: 15 together, 25 alone. Who stops halfway harvests half."""
    record = SweepRecord(
        created_utc="", command="", versions={}, hardware={}, model={}, data={}, seconds_harvest=10.0,
        members={
            "a": MemberRecord(settings={}, seconds=2.0, n_steps=10),
            "b": MemberRecord(settings={}, seconds=3.0, n_steps=10),
        },
    )  # fmt: skip
    cost = record.cost()
    assert (cost["together_seconds"], cost["alone_seconds"], cost["saving"]) == (15, 25, pytest.approx(0.4))
    assert record.with_member("b", n_steps=5).cost()["alone_seconds"] == 20

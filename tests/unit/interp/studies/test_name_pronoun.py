"""Names and pronouns: prompts, splits, and that taking out what carries the gender is told from what does not."""

import zipfile

import numpy as np
import pytest
import torch

from interp.code import Code
from interp.errors import DataError
from interp.models import Model, load_model
from interp.studies.name_pronoun_features import ablate, choose_features, right, scene_of, swap_direction
from interp.studies.name_pronoun_prompts import (
    NAME,
    TEST_TEMPLATES,
    TRAIN_TEMPLATES,
    load_names,
    named_prompts,
    pronoun_tokens,
    split_names,
)
from tests.texts import write_jsonl

HOOK = "blocks.1.hook_resid_post"
SEEN = {"female": ["Lily", "Sue", "Mia", "Lucy"], "male": ["Tim", "Tom", "Ben", "Sam"]}
HELD = {"female": ["Sara", "Anna", "Amy", "Jane"], "male": ["Bob", "Jack", "Timmy", "John"]}


class Axes:
    """A dictionary by hand: one known direction and 30 random ones, each with either sign, around a mean."""

    def __init__(self, hook: str, directions: torch.Tensor, mean: torch.Tensor) -> None:
        self.hook, self.mean = hook, mean
        unit = directions / directions.norm(dim=1, keepdim=True)
        self.rows = torch.cat([unit, -unit])

    hooks_in = property(lambda self: (self.hook,))
    hooks_out = property(lambda self: (self.hook,))
    d_sae = property(lambda self: self.rows.shape[0])

    def encode(self, x):
        return Code.from_dense(((x - self.mean) @ self.rows.T).relu())

    def decode(self, code, *, prefix=None):
        return code.dense() @ self.rows

    def directions(self, features):
        return self.rows[features]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("embedded", device="cpu")


@pytest.fixture(scope="module")
def dictionary(model):
    seen = named_prompts(model, SEEN, TRAIN_TEMPLATES)
    scene = scene_of(model, HOOK, seen)
    from interp.hooks import capture

    acts = capture(model, seen.prompts.token_ids, [HOOK])[HOOK][scene.keep]
    sign = torch.from_numpy(seen.sign).float()[:, None].expand_as(scene.keep)[scene.keep]
    gender = acts[sign > 0].mean(0) - acts[sign < 0].mean(0)
    others = torch.randn(30, 192, generator=torch.Generator().manual_seed(0))
    return Axes(HOOK, torch.cat([gender[None], others]), acts.mean(0))


def test_prompts_know_the_end_of_the_name_and_the_pronouns(model):
    named = named_prompts(model, SEEN, TRAIN_TEMPLATES)
    he, she = pronoun_tokens(model)
    assert (model.tokenizer.decode([he]), model.tokenizer.decode([she])) == (" he", " she")
    assert named.prompts.answers.eq(he).all()
    at = named.prompts.places[NAME]
    ends = named.prompts.token_ids[torch.arange(len(at)), at]
    assert [model.tokenizer.decode([t]).strip() for t in ends.tolist()[:: len(TRAIN_TEMPLATES)]] == [
        *SEEN["female"],
        *SEEN["male"],
    ]
    assert named.sign.tolist() == [-1.0] * 12 + [1.0] * 12
    assert len(set(named.prompts.clusters.tolist())) == 8
    assert not set(TRAIN_TEMPLATES) & set(TEST_TEMPLATES)


def test_names_are_split_without_overlap_and_ambiguous_ones_left_out(tmp_path):
    everyone = (*SEEN["female"], *SEEN["male"], *HELD["female"], *HELD["male"], "Pat", "Rose", "Spot")
    texts = [f"{name} ran. {name} sat." for name in everyone]
    dataset = write_jsonl(tmp_path / "texts.jsonl", [*texts, "A rose grew.", "Rarely ran."])
    # Of both genders, also a word, a pet, and too rare.
    lists = {g: [*SEEN[g], *HELD[g], "Pat", "Spot", "Rarely"] for g in ("female", "male")}
    lists["female"].append("Rose")
    train, test = split_names(lists, str(dataset), least=2, n=4, seed=0)
    for gender in ("female", "male"):
        assert len(train[gender]) == len(test[gender]) == 4
        assert set(train[gender]) | set(test[gender]) == set(SEEN[gender]) | set(HELD[gender])
    with pytest.raises(DataError, match="occur 3 times or more"):
        split_names(lists, str(dataset), least=3, n=4, seed=0)


def test_lists_of_names_are_read_from_a_zip_or_a_folder(tmp_path):
    for gender, text in (("female", "Ann\nMary Ann\n"), ("male", "Bob\n")):
        (tmp_path / f"{gender}.txt").write_text(text)
    with zipfile.ZipFile(tmp_path / "names.zip", "w") as held:
        for gender in ("female", "male"):
            held.write(tmp_path / f"{gender}.txt", f"names/{gender}.txt")
    assert load_names(tmp_path / "names.zip") == load_names(tmp_path)
    assert load_names(tmp_path)["male"] == ["Bob"]
    assert "Lily" in load_names(None)["female"]
    with pytest.raises(DataError, match=r"holds no female.txt"):
        load_names(tmp_path / "nothing.zip")


def test_the_gender_direction_is_chosen_and_carries_the_pronoun(model, dictionary):
    seen, held = named_prompts(model, SEEN, TRAIN_TEMPLATES), named_prompts(model, HELD, TEST_TEMPLATES)
    scene = scene_of(model, HOOK, held)
    assert right(held, scene).mean() > 0.9
    chosen = choose_features(model, dictionary, seen, 2)
    # Features 0 and 31 are the two signs of the one direction that was made to tell gender.
    assert set(chosen.features.tolist()) == {0, 31}
    found = ablate(scene, dictionary, held, chosen, 2, n_controls=20, seed=0)
    assert float(found.before.value) > 4
    assert float(found.change.interval[1]) < 0
    assert abs(found.controls.mean()) < abs(float(found.change.value)) / 4
    assert float(found.gap.interval[1]) < 0
    assert found.p == pytest.approx(1 / 21)
    # What male names have more of pushes towards "he".
    direction = swap_direction(dictionary, chosen, 2)
    effects = scene.effects(direction.vector[None], [-1.0, 1.0])[0]
    assert effects[0].mean() < -2 < 2 < effects[1].mean()
    assert np.isfinite(effects).all()

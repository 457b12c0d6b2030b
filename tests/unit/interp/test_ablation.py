"""Ablations against weights taken out, means taken by hand, and what repeating them must not change."""

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.ablation import ablation_sweep
from interp.component_values import standing, strongest_features
from interp.components import Component, block_components
from interp.errors import ConfigError, DataError, ShapeError
from interp.forward import all_outputs, last_outputs
from interp.hooks import edit
from interp.interventions import Directional, Intervention, Mean, Resample, Zero
from interp.outcomes import CROSS_ENTROPY, Outcome, kl_from, turned_from
from interp.prompts import Prompts, prompts_of
from interp.replacement import joint_edits
from interp.sweep_cells import Places, block_cells, feature_cells, listed_cells, part_cells
from tests.dictionaries import RandomDictionary
from tests.families import tiny_model

ROWS = [[5, 6, 7, 8, 9, 10], [10, 11, 12, 13], [14, 15, 16, 17, 18, 19], [20, 21, 22, 23]]
RAW = Outcome("first logit", "logits", lambda outputs, _: outputs[:, 0])


def made_prompts(**more: object) -> Prompts:
    return prompts_of(ROWS, answers=[30, 31, 32, 33], **more)


def test_without_a_head_is_without_its_part_of_the_output_projection() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    found = ablation_sweep(model, prompts, part_cells(model, "head"), Zero(), outcome=RAW)
    with torch.no_grad():
        whole = last_outputs(model, prompts)[:, 0]
    for layer, head in np.ndindex(*found.effect.shape):
        other = tiny_model("gpt2")
        d = other.sizes.d_head
        other.hf.transformer.h[layer].attn.c_proj.weight[head * d : (head + 1) * d] = 0
        with torch.no_grad():
            expected = float((last_outputs(other, prompts)[:, 0] - whole).mean())
        assert found.effect[layer, head] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_without_a_neuron_is_without_its_row() -> None:
    model, prompts = tiny_model("llama"), made_prompts()
    found = ablation_sweep(model, prompts, part_cells(model, "neuron", layers=[1]), Zero(), outcome=RAW)
    other = tiny_model("llama")
    other.hf.model.layers[1].mlp.down_proj.weight[:, 7] = 0
    with torch.no_grad():
        expected = float((last_outputs(other, prompts) - last_outputs(model, prompts))[:, 0].mean())
    assert found.effect.shape == (28,)
    assert found.effect[7] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("by_position", [False, True])
def test_means_are_over_real_tokens(by_position: bool) -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    hook = "blocks.1.hook_mlp_out"
    acts = standing(model, prompts, [hook])[hook]
    rows = [acts[i, : len(row)] for i, row in enumerate(ROWS)]
    if by_position:
        at = [torch.stack([row[t] for row in rows if len(row) > t]).mean(0) for t in range(6)]
        mean = torch.stack(at)
    else:
        mean = torch.cat(rows).mean(0)
    found = ablation_sweep(
        model, prompts, listed_cells([Component("mlp", hook)]), Mean(prompts, by_position=by_position), outcome=RAW
    )
    with torch.no_grad():
        moved = last_outputs(model, prompts, {hook: lambda x: mean.expand_as(x).clone()})[:, 0]
        expected = float((moved - last_outputs(model, prompts)[:, 0]).mean())
    assert found.effect[0] == pytest.approx(expected, rel=1e-4)


def test_a_position_that_no_reference_has_is_refused() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    with pytest.raises(DataError, match="up to 2 tokens for prompts of 6"):
        Mean(prompts_of([[5, 6]]), by_position=True).prepare(model, prompts, block_components(model, "mlp"), {})


def test_resampling_reads_another_prompt_that_is_long_enough() -> None:
    prompts = made_prompts()
    lengths = prompts.real.sum(1)
    for seed in range(5):
        sources = Resample(prompts, seed).sources(prompts)
        assert not (sources == torch.arange(4)).any()
        assert (lengths[sources] >= lengths).all()
    assert Resample(prompts, 0).sources(prompts).equal(Resample(prompts, 0).sources(prompts))
    with pytest.raises(DataError, match="no other reference prompt is as long"):
        Resample(prompts.take(torch.tensor([1, 3]))).sources(prompts)


def test_resampling_the_whole_stream_is_the_other_prompt() -> None:
    model, prompts = tiny_model("gpt2"), prompts_of([ROWS[0], ROWS[2]])
    found = ablation_sweep(model, prompts, block_cells(model, ("residual",)), Resample(prompts), outcome=RAW)
    np.testing.assert_allclose(found.effect, 0, atol=1e-5)
    one = prompts.take(slice(1))
    alone = ablation_sweep(model, one, block_cells(model, ("residual",)), Resample(prompts), outcome=RAW)
    with torch.no_grad():
        outputs = last_outputs(model, prompts)[:, 0]
    np.testing.assert_allclose(alone.effect, float(outputs[1] - outputs[0]), rtol=1e-3)


def _edited(model, prompts, components, intervention: Intervention, dictionaries=None) -> Tensor:
    with torch.no_grad():
        return all_outputs(
            model, prompts, joint_edits(model, prompts, components, intervention, dictionaries=dictionaries)
        )


def test_ablating_a_feature_twice_is_ablating_it_once() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    hook = "blocks.1.hook_resid_pre"
    held = {hook: RandomDictionary(hook, hook, model.d_model, 12, dtype=torch.float32)}
    one, other = Component("feature", hook, 3), Component("feature", hook, 5)
    once = _edited(model, prompts, [one, other], Zero(), held)
    assert once.equal(_edited(model, prompts, [one, other, one, one.at(2)], Zero(), held))
    assert not torch.allclose(once, _edited(model, prompts, [other], Zero(), held))


def test_ablating_a_feature_takes_off_what_it_adds_and_no_more() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    hook = "blocks.1.hook_resid_pre"
    dictionary = RandomDictionary(hook, hook, model.d_model, 12, dtype=torch.float32)
    edits = joint_edits(model, prompts, [Component("feature", hook, 3, 2)], Zero(), dictionaries={hook: dictionary})
    x = standing(model, prompts, [hook])[hook]
    y = edits[hook](x.clone())
    expected = x.clone()
    fired = (x[:, 2] @ dictionary.encoder[3]).relu()
    expected[:, 2] -= fired[:, None] * dictionary.decoder[3]
    torch.testing.assert_close(y, expected)
    assert (fired > 0).any()
    # All features together leave the error and the decoder's bias.
    every = [Component("feature", hook, feature) for feature in range(12)]
    rest = joint_edits(model, prompts, every, Zero(), dictionaries={hook: dictionary})[hook](x.clone())
    code = dictionary.encode(x.flatten(0, 1))
    left = (x.flatten(0, 1) - dictionary.decode(code) + dictionary.bias).view_as(x)
    torch.testing.assert_close(rest[prompts.real], left[prompts.real], rtol=1e-4, atol=1e-5)


def test_a_feature_s_mean_is_over_its_activations() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    hook = "blocks.1.hook_resid_pre"
    dictionary = RandomDictionary(hook, hook, model.d_model, 12, dtype=torch.float32)
    x = standing(model, prompts, [hook])[hook]
    fired = (x @ dictionary.encoder[3]).relu()
    mean = fired[prompts.real].mean()
    component = Component("feature", hook, 3)
    y = joint_edits(model, prompts, [component], Mean(prompts), dictionaries={hook: dictionary})[hook](x.clone())
    expected = x + (mean - fired)[:, :, None] * dictionary.decoder[3]
    torch.testing.assert_close(y[prompts.real], expected[prompts.real], rtol=1e-4, atol=1e-5)


def test_a_feature_s_mean_leaves_out_the_tokens_at_which_it_is_left_alone() -> None:
    model, hook = tiny_model("gpt2"), "blocks.1.hook_resid_pre"
    begin = model.frame.begin
    assert begin is not None
    prompts = prompts_of([[begin, 6, 7], [begin, 9, 10, 11]])
    dictionary = RandomDictionary(hook, hook, model.d_model, 12, linear=True, dtype=torch.float32)
    x = standing(model, prompts, [hook])[hook]
    activation = x @ dictionary.encoder[3]
    mean = torch.cat([activation[0, 1:3], activation[1, 1:4]]).mean()
    component = Component("feature", hook, 3)
    y = joint_edits(model, prompts, [component], Mean(prompts), dictionaries={hook: dictionary})[hook](x.clone())
    expected = x[:, 1:3] + (mean - activation[:, 1:3])[:, :, None] * dictionary.decoder[3]
    torch.testing.assert_close(y[:, 1:3], expected, rtol=1e-4, atol=1e-5)


def test_features_leave_the_frame_of_a_row_alone_unless_named() -> None:
    model = tiny_model("gpt2")
    prompts = prompts_of([[0, 6, 7], [0, 9, 10]])
    assert model.frame.begin in (0, None)
    hook = "blocks.1.hook_resid_pre"
    dictionary = RandomDictionary(hook, hook, model.d_model, 12, linear=True, dtype=torch.float32)
    x = standing(model, prompts, [hook])[hook]
    for position, at_first in ((None, model.frame.begin is None), (0, True)):
        component = Component("feature", hook, 3, position)
        y = joint_edits(model, prompts, [component], Zero(), dictionaries={hook: dictionary})[hook](x.clone())
        assert (not y[:, 0].equal(x[:, 0])) == at_first
        assert y[:, 1].equal(x[:, 1]) == (position == 0)


def test_a_direction_projected_out_is_gone_and_a_set_one_holds_its_value() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    hook, direction = "blocks.1.hook_resid_pre", torch.randn(model.d_model)
    component, unit = Component("residual", hook), direction / direction.norm()
    x = standing(model, prompts, [hook])[hook]
    out = joint_edits(model, prompts, [component], Directional(direction))[hook]
    once = out(x.clone())
    torch.testing.assert_close(once @ unit, torch.zeros(x.shape[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(out(once.clone()), once, atol=1e-5, rtol=0)
    across = torch.randn(model.d_model)
    across -= (across @ unit) * unit
    torch.testing.assert_close(once @ across, x @ across, atol=1e-4, rtol=1e-4)
    to_three = joint_edits(model, prompts, [component.at("last")], Directional(-2 * direction, 3.0))[hook](x.clone())
    torch.testing.assert_close(
        (to_three @ -unit)[torch.arange(4), prompts.last], torch.full((4,), 3.0), atol=1e-5, rtol=0
    )
    assert to_three[0, :5].equal(x[0, :5])


def test_a_sweep_along_a_direction_is_the_same_edit() -> None:
    model, prompts = tiny_model("llama"), made_prompts()
    component = Component("head", "blocks.1.attn.hook_z", 2)
    direction = torch.randn(model.sizes.d_head)
    found = ablation_sweep(model, prompts, listed_cells([component]), Directional(direction, 1.5), outcome=RAW)
    with edit(model, joint_edits(model, prompts, [component], Directional(direction, 1.5))), torch.no_grad():
        moved = last_outputs(model, prompts)[:, 0]
    with torch.no_grad():
        expected = float((moved - last_outputs(model, prompts)[:, 0]).mean())
    assert found.effect[0] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ShapeError, match="as wide as the component"):
        ablation_sweep(model, prompts, listed_cells([component]), Directional(torch.ones(3)), outcome=RAW)
    hook = "blocks.1.hook_resid_pre"
    held = {hook: RandomDictionary(hook, hook, model.d_model, 12, dtype=torch.float32)}
    along, feature = Directional(torch.ones(model.d_model)), feature_cells(hook, [1])
    with pytest.raises(ConfigError, match="a feature has its own"):
        ablation_sweep(model, prompts, feature, along, outcome=RAW, dictionaries=held)


def test_outcomes_made_of_reference_outputs_do_not_depend_on_the_rows_of_a_pass() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    cells = block_cells(model, ("mlp",), places=Places((0, 2, "last"), ("0", "2", "last")))
    few, many = (ablation_sweep(model, prompts, cells, Zero(), outcome=kl_from, rows_per_pass=rows) for rows in (3, 64))
    np.testing.assert_allclose(few.effect, many.effect, rtol=1e-4, atol=1e-6)
    assert (many.effect[:, -1] > 0).all()
    assert abs(many.reference["unablated"]) < 1e-6


def test_a_component_at_all_tokens_is_gone_at_bos_too_and_the_grid_says_so() -> None:
    model, prompts, hook = tiny_model("gpt2"), prompts_of([[0, 5, 6, 7], [0, 8, 9]]), "blocks.1.hook_mlp_out"
    everywhere = ablation_sweep(model, prompts, listed_cells([Component("mlp", hook)]), Zero(), outcome=RAW)
    moved = {}
    for first in (0, 1):
        with torch.no_grad(), edit(model, {hook: lambda x, a=first: torch.cat([x[:, :a], 0 * x[:, a:]], 1)}):
            moved[first] = last_outputs(model, prompts)[:, 0].mean()
    plain = float(everywhere.reference["unablated"])
    assert everywhere.effect[0] == pytest.approx(float(moved[0]) - plain, rel=1e-4)
    assert everywhere.effect[0] != pytest.approx(float(moved[1]) - plain, rel=1e-2)
    assert everywhere.method == "zero ablation at every token, BOS too"
    one = ablation_sweep(model, prompts, listed_cells([Component("mlp", hook, None, 1)]), Zero(), outcome=RAW)
    assert one.method == "zero ablation"


def test_an_encoder_turns() -> None:
    model, prompts = tiny_model("bert"), made_prompts()
    found = ablation_sweep(model, prompts, block_cells(model, ("attention", "mlp")), Mean(prompts), outcome=turned_from)
    assert (found.effect > 0).all()
    assert found.interval is not None
    assert (found.interval[0] <= found.effect).all()
    assert (found.effect <= found.interval[1]).all()


def test_one_cluster_has_no_interval() -> None:
    model = tiny_model("gpt2")
    found = ablation_sweep(
        model, made_prompts(clusters=[7, 7, 7, 7]), block_cells(model, ("mlp",)), Zero(), outcome=CROSS_ENTROPY
    )
    assert found.interval is None


def test_the_strongest_features_are_those_of_most_activation() -> None:
    model, prompts = tiny_model("gpt2"), made_prompts()
    hook = "blocks.1.hook_resid_pre"
    dictionary = RandomDictionary(hook, hook, model.d_model, 12, dtype=torch.float32)
    x = standing(model, prompts, [hook])[hook][prompts.real]
    total = (x @ dictionary.encoder.t()).relu().sum(0)
    found = strongest_features(model, prompts, hook, dictionary, 4)
    assert set(found) == set(total.argsort(descending=True)[:4].tolist())

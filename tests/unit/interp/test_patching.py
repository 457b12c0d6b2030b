"""Patching and ablation against passes written by hand, and against what must hold on any model."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interp.component_values import standing
from interp.components import Component, block_components, write_part
from interp.errors import ConfigError, DataError, ShapeError
from interp.forward import last_outputs
from interp.interventions import From
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE, Outcome, kl_from
from interp.patching import patch_sweep
from interp.path_patching import path_patching
from interp.prompts import PromptPairs, Prompts, prompts_of
from interp.sweep_cells import Places, block_cells, every_position, feature_cells, listed_cells
from interp.two_runs import DIRECTIONS, Direction
from tests.dictionaries import RandomDictionary
from tests.families import CONFIGS, ENCODERS, tiny_model

CLEAN = [[5, 6, 7, 8, 9, 10], [10, 11, 12, 13], [14, 15, 16, 17, 18, 19]]
CORRUPT = [[5, 24, 7, 8, 9, 10], [10, 25, 12, 13], [14, 26, 16, 17, 18, 20]]
ENDS = {"answers": [30, 31, 32], "foils": [33, 34, 35]}


def made_pairs(**more: object) -> PromptPairs:
    return PromptPairs(prompts_of(CLEAN, **ENDS, **more), prompts_of(CORRUPT, **ENDS, **more))


def outcome_for(model: Model) -> Outcome:
    """Any figure of what an encoder gives; the logit difference of a model that has logits."""
    return LOGIT_DIFFERENCE if model.causal else Outcome("first", "", lambda outputs, _: outputs[:, 0] - outputs[:, 3])


def linear_model() -> Model:
    """A GPT-2 whose norms are identities, whose MLPs have no nonlinearity, and whose attention is uniform."""
    model = tiny_model("gpt2")
    model.hf.double()
    model.hf.transformer.ln_f = nn.Identity()
    d = model.d_model
    for block in model.hf.transformer.h:
        block.ln_1 = block.ln_2 = block.mlp.act = nn.Identity()
        block.attn.c_attn.weight[:, : 2 * d] = 0
        block.attn.c_attn.bias[: 2 * d] = 0
    return model


def by_hand(model: Model, pairs: PromptPairs, component: Component, direction: Direction) -> float:
    """The definition, one whole pass at a time, by a hook of torch's own on a module of GPT-2."""
    block = model.hf.transformer.h[int(component.hook.split(".")[1])]
    module = {"attention": block.attn, "mlp": block.mlp}[component.kind]
    source, base = (pairs.clean, pairs.corrupt) if direction == "denoising" else (pairs.corrupt, pairs.clean)
    kept: list[Tensor] = []

    def keep(_m: nn.Module, _a: object, out: Tensor | tuple[Tensor, ...]) -> None:
        kept.append((out[0] if isinstance(out, tuple) else out).clone())

    def patch(_m: nn.Module, _a: object, out: Tensor | tuple[Tensor, ...]) -> object:
        x = (out[0] if isinstance(out, tuple) else out).clone()
        x[:, component.position] = kept[0][:, component.position]
        return (x, *out[1:]) if isinstance(out, tuple) else x

    def difference(hook: Callable[..., object] | None, ids: Tensor) -> Tensor:
        handle = module.register_forward_hook(hook) if hook else None
        logits = model.hf(ids).logits[torch.arange(3), pairs.clean.last]
        if handle:
            handle.remove()
        return logits[torch.arange(3), ENDS["answers"]] - logits[torch.arange(3), ENDS["foils"]]

    with torch.no_grad():
        there = difference(keep, source.token_ids)
        unpatched = difference(None, base.token_ids)
        moved = difference(patch, base.token_ids)
    return float((moved - unpatched).mean() / (there - unpatched).mean())


@pytest.mark.parametrize("rows_per_pass", [3, 64])
def test_a_sweep_is_the_definition_cell_by_cell(rows_per_pass: int) -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    model.hf.double()
    cells = block_cells(model, ("attention", "mlp"), places=every_position(model, pairs))
    for direction in DIRECTIONS:
        found = patch_sweep(model, pairs, cells, direction=direction, rows_per_pass=rows_per_pass)
        expected = [by_hand(model, pairs, component, direction) for component in cells.components]
        assert found.effect.shape == (2, model.n_layers, 6)
        np.testing.assert_allclose(found.effect.flatten(), expected, rtol=1e-9, atol=1e-12)
        assert np.abs(found.effect).max() > 0.05


@pytest.mark.parametrize("kind", [*CONFIGS, *ENCODERS])
def test_passes_that_are_cut_short_are_whole_passes(kind: str) -> None:
    model, pairs = tiny_model(kind), made_pairs()
    hooks = {"residual": "hook_resid_post", "neuron": "mlp.hook_post", "attention": "hook_attn_out"}
    parts = [
        Component(k, f"blocks.{n}.{hook}", 3 if k == "neuron" else None) for k, hook in hooks.items() for n in (1, 2)
    ]
    parts += [*block_components(model, "head", layers=[0, 2]), *block_components(model, "residual")]
    parts += [Component("head", f"blocks.{layer}.attn.hook_{letter}", 1) for layer in (0, 2) for letter in "qkv"]
    cells = listed_cells([part.at(position) for part in parts for position in (1, 3, "last")])
    outcome = outcome_for(model)
    found = patch_sweep(model, pairs, cells, outcome=outcome).effect
    source = standing(model, pairs.clean, list(dict.fromkeys(part.hook for part in parts)))

    def judged(edits: dict | None, side: Prompts) -> Tensor:
        with torch.no_grad():
            return outcome(last_outputs(model, side, edits), pairs.clean)

    base, there = judged(None, pairs.corrupt), judged(None, pairs.clean)
    for place, component in enumerate(cells.components):
        columns, at = component.columns(model), pairs.corrupt.positions(component.position)
        new = source[component.hook][:, :, columns]
        moved = judged({component.hook: lambda x, n=new, c=columns, at=at: write_part(x, n, c, at)}, pairs.corrupt)
        expected = float((moved - base).mean() / (there - base).mean())
        assert found[place] == pytest.approx(expected, rel=1e-3, abs=5e-4), component


@pytest.mark.parametrize("kind", [*CONFIGS, *ENCODERS])
def test_the_whole_stream_is_everything_and_what_does_not_differ_is_nothing(kind: str) -> None:
    model, pairs = tiny_model(kind), made_pairs()
    outcome = outcome_for(model)
    everywhere = patch_sweep(model, pairs, block_cells(model, ("residual",)), outcome=outcome)
    np.testing.assert_allclose(everywhere.effect, 1, rtol=0, atol=2e-4)
    # Clean and corrupt begin alike: of a causal model, nothing differs at the first token.
    first = Places((0,), ("0",))
    at_first = patch_sweep(model, pairs, block_cells(model, ("residual", "mlp"), places=first), outcome=outcome)
    if model.causal:
        np.testing.assert_allclose(at_first.effect, 0, atol=2e-4)
    else:
        assert np.abs(at_first.effect[0, 1:]).max() > 1e-3
        assert abs(at_first.effect[0, 0]) < 2e-4


def test_the_stream_of_a_layer_is_what_its_block_reads() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    found = patch_sweep(model, pairs, block_cells(model, places=Places((1, "last"), ("1", "last"))))
    assert found.axes[0].labels == ("resid_pre", "attention", "mlp")
    below = listed_cells([Component("residual", f"blocks.{layer}.hook_resid_post", position=1) for layer in (0, 1)])
    above = patch_sweep(model, pairs, below).effect
    for layer in (0, 1):
        cell = found.at(component="resid_pre", layer=str(layer + 1), position="1")
        assert cell == pytest.approx(above[layer], rel=1e-4)
        assert found.at(component="resid_pre", layer=str(layer), position="1") != pytest.approx(above[layer], rel=1e-2)


def test_what_the_last_block_puts_out_is_everything_at_the_last_token_and_nothing_elsewhere() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    top = Component("residual", f"blocks.{model.n_layers - 1}.hook_resid_post")
    found = patch_sweep(model, pairs, listed_cells([top.at(1), top.at("last")]))
    np.testing.assert_allclose(found.effect, [0, 1], atol=2e-4)


def test_on_a_linear_model_directions_agree_and_positions_add_up() -> None:
    model, pairs = linear_model(), made_pairs()
    cells = block_cells(model, places=every_position(model, pairs))
    denoised, noised = (patch_sweep(model, pairs, cells, direction=direction) for direction in DIRECTIONS)
    np.testing.assert_allclose(denoised.effect, noised.effect, rtol=1e-9, atol=1e-12)
    assert denoised.reference["clean"] == noised.reference["clean"]
    together = patch_sweep(model, pairs, block_cells(model))
    np.testing.assert_allclose(denoised.effect.sum(-1), together.effect, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(denoised.effect[0].sum(-1), 1, rtol=1e-9)


def test_elsewhere_directions_differ() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    cells = block_cells(model, ("mlp",))
    denoised, noised = (patch_sweep(model, pairs, cells, direction=direction) for direction in DIRECTIONS)
    assert np.abs(denoised.effect - noised.effect).max() > 1e-3
    assert "denoising" in denoised.method
    assert "noising" in noised.method


def test_named_places_are_each_prompt_s_own() -> None:
    model = tiny_model("gpt2")
    pairs = made_pairs(places={"changed": [1, 1, 1]})
    cells = block_cells(model, ("residual",), places=Places(("changed", 1, "last"), ("changed", "1", "last")))
    found = patch_sweep(model, pairs, cells)
    np.testing.assert_allclose(found.effect[:, 0], found.effect[:, 1], rtol=0, atol=1e-6)
    # Two pairs of three differ in the changed token alone; the third in its last one too.
    assert found.effect[0, 2] != 0


def test_what_is_patched_after_a_prompt_s_end_does_nothing() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    short = pairs.take(torch.tensor([1, 1]))
    cells = block_cells(model, ("residual", "mlp"), places=Places((3, 4, 5), ("3", "4", "5")))
    found = patch_sweep(model, short, cells)
    assert np.abs(found.effect[:, :, 1:]).max() == 0
    assert np.abs(found.effect[:, :, 0]).max() > 1e-3


def test_kl_is_from_the_clean_pass_in_both_directions() -> None:
    model, pairs = tiny_model("llama"), made_pairs()
    for direction in DIRECTIONS:
        found = patch_sweep(model, pairs, block_cells(model, ("residual",)), direction=direction, outcome=kl_from)
        assert abs(found.reference["clean"]) < 1e-6 < found.reference["corrupt"]
        np.testing.assert_allclose(found.effect, 1, atol=1e-3)


def test_sides_that_give_one_outcome_are_refused() -> None:
    model = tiny_model("gpt2")
    same = PromptPairs(prompts_of(CLEAN, **ENDS), prompts_of(CLEAN, **ENDS))
    with pytest.raises(DataError, match="differs by 0"):
        patch_sweep(model, same, block_cells(model, ("mlp",)))


def test_pairs_that_hardly_differ_are_counted() -> None:
    model = tiny_model("gpt2")
    rows = [*CORRUPT, CLEAN[0]]
    ends = {name: [*values, values[0]] for name, values in ENDS.items()}
    pairs = PromptPairs(prompts_of([*CLEAN, CLEAN[0]], **ends), prompts_of(rows, **ends))
    assert patch_sweep(model, pairs, block_cells(model, ("mlp",))).n_near_zero == 1


def test_a_feature_is_patched_along_its_direction_and_the_error_stays() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    hook = "blocks.1.hook_resid_pre"
    held = RandomDictionary(hook, hook, model.d_model, 12, dtype=torch.float32)
    found = patch_sweep(model, pairs, feature_cells(hook, [3, 5]), dictionaries={hook: held})
    clean, corrupt = (standing(model, side, [hook])[hook] for side in (pairs.clean, pairs.corrupt))
    for place, feature in enumerate((3, 5)):
        codes = [(x @ held.encoder.t()).relu()[:, :, feature] for x in (clean, corrupt)]
        new = corrupt + (codes[0] - codes[1])[:, :, None] * held.decoder[feature]
        # The first token of a tiny model's rows is no BOS; where one stands it is left alone.
        kept = (pairs.clean.token_ids == model.frame.begin)[:, :, None]
        with torch.no_grad():
            moved, base, there = (
                LOGIT_DIFFERENCE(last_outputs(model, side, edits), pairs.clean)
                for side, edits in (
                    (pairs.corrupt, {hook: lambda x, new=new: torch.where(kept, x, new)}),  # noqa: B023
                    (pairs.corrupt, {}),
                    (pairs.clean, {}),
                )
            )
        expected = float((moved - base).mean() / (there - base).mean())
        assert found.effect[place] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_features_need_their_dictionary() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    hook = "blocks.1.hook_resid_pre"
    other = RandomDictionary("blocks.0.hook_mlp_out", hook, model.d_model, 12, dtype=torch.float32)
    with pytest.raises(ConfigError, match="without a dictionary"):
        patch_sweep(model, pairs, feature_cells(hook, [3]))
    with pytest.raises(ConfigError, match=r"expected blocks\.1\.hook_resid_pre for both"):
        patch_sweep(model, pairs, feature_cells(hook, [3]), dictionaries={hook: other})
    own = RandomDictionary(hook, hook, model.d_model, 12, dtype=torch.float32)
    with pytest.raises(ConfigError, match="got feature 12; expected 0 to 11"):
        patch_sweep(model, pairs, feature_cells(hook, [12]), dictionaries={hook: own})


def test_on_a_linear_model_a_component_s_paths_add_up() -> None:
    model, pairs = linear_model(), made_pairs()
    kinds = [block_components(model, kind) for kind in ("attention", "mlp")]
    writers = [component for block in zip(*kinds, strict=True) for component in block]
    heard: list[tuple[int, int]] = []
    more = {"rows_per_pass": 2, "on_progress": lambda *told: heard.append(told)}
    found = path_patching(model, pairs, writers, [None, *writers], **more)
    n = len(writers) * -(-len(pairs) // 2)
    assert heard == [(done, n) for done in range(1, n + 1)]
    whole = patch_sweep(model, pairs, listed_cells(writers))
    # What leaves a component goes to the output at once, or first through one other component.
    np.testing.assert_allclose(found.effect.sum(1) - np.diag(found.effect[:, 1:]), whole.effect, rtol=1e-9, atol=1e-12)
    below = np.tril(found.effect[:, 1:], -1)
    np.testing.assert_allclose(below, 0, atol=1e-12)
    assert np.abs(np.triu(found.effect[:, 1:], 1)).max() > 1e-3


def test_a_path_is_what_freezing_by_hand_gives() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    model.hf.double()
    sender, receiver = Component("head", "blocks.0.attn.hook_z", 1), Component("mlp", "blocks.1.hook_mlp_out")
    found = path_patching(model, pairs, [sender], [receiver, None], direction="noising")
    base, blocks, d = pairs.clean, model.hf.transformer.h, model.sizes.d_head
    with torch.no_grad():
        acts = {
            side: standing(model, given, list(model.hooks))
            for side, given in (("clean", base), ("corrupt", pairs.corrupt))
        }
        own = acts["clean"]
        # The sender's change of the stream, by its columns of the output projection.
        columns = slice(d, 2 * d)
        change = (acts["corrupt"]["blocks.0.attn.hook_z"] - own["blocks.0.attn.hook_z"])[:, :, columns]
        change = change @ blocks[0].attn.c_proj.weight[columns]
        new = blocks[1].mlp(blocks[1].ln_2(own["blocks.1.hook_resid_mid"] + change))
        through = last_outputs(model, base, {"blocks.1.hook_mlp_out": lambda _: new})
        final = own["blocks.2.hook_resid_post"] + change
        direct = model.hf.lm_head(model.hf.transformer.ln_f(final))[torch.arange(3), base.last]
        unpatched, there = (LOGIT_DIFFERENCE(last_outputs(model, side), base) for side in (base, pairs.corrupt))
    for place, outputs in enumerate((through, direct)):
        expected = float((LOGIT_DIFFERENCE(outputs, base) - unpatched).mean() / (there - unpatched).mean())
        assert found.effect[0, place] == pytest.approx(expected, rel=1e-9)


def test_sources_must_reach_as_far() -> None:
    model = tiny_model("gpt2")
    with pytest.raises(ShapeError, match="expected 3 rows of 6 tokens"):
        From(prompts_of([[5, 6]] * 3)).prepare(model, prompts_of(CLEAN), block_components(model, "mlp"), {})

"""Attribution is the derivative it claims to be: exact on linear models, never mixed between directions, complete."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interp.attribution import attribution_patching
from interp.code import Code
from interp.components import Component, block_components, write_part
from interp.edge_attribution import (
    LOGITS,
    destinations_of,
    edge_attribution,
    gradient_at_input,
    head_output,
    sources_of,
)
from interp.effects import EffectGrid
from interp.errors import ConfigError, DataError
from interp.forward import gradients_at, last_outputs
from interp.hooks import capture
from interp.integrated_gradients import AlongPath, completeness, integrated_gradients
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE, Outcome, kl_from
from interp.patching import patch_sweep
from interp.prompts import PromptPairs, prompts_of
from interp.sweep_cells import listed_cells
from interp.two_runs import Direction, TwoRuns
from tests.dictionaries import RandomDictionary
from tests.families import tiny_model

CLEAN = [[5, 6, 7, 8, 9], [10, 11, 12, 13], [14, 15, 16, 17, 18], [19, 20, 21, 22, 23]]
CORRUPT = [[5, 24, 7, 8, 9], [10, 25, 12, 13], [14, 26, 16, 17, 18], [19, 27, 21, 22, 23]]


def made_pairs() -> PromptPairs:
    ends = {"answers": [30, 31, 32, 33], "foils": [34, 35, 36, 37]}
    return PromptPairs(prompts_of(CLEAN, **ends), prompts_of(CORRUPT, **ends))


def patched(model: Model, pairs: PromptPairs, component: Component, direction: Direction, outcome: Outcome) -> float:
    """True patching, as METHODS defines it, with nothing of the code under test but hooks."""
    runs = TwoRuns.of(pairs, direction)
    with torch.no_grad():
        source = capture(model, runs.source.token_ids, [component.hook])[component.hook]
        columns, at = component.columns(model), runs.changed.positions(component.position)
        edits = {component.hook: lambda x: write_part(x, source[:, :, columns], columns, at)}
        moved = outcome(last_outputs(model, runs.changed, edits), pairs.clean)
        base = outcome(last_outputs(model, runs.changed), pairs.clean)
        other = outcome(last_outputs(model, runs.source), pairs.clean)
    return float((moved - base).sum() / (other - base).sum())


class _Linear(nn.Module):
    """Stands for a nonlinear module: a fixed linear map of its input, the same at every token."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        return x @ self.weight


class _Mixing(nn.Module):
    """Attention without softmax: a fixed average of the values of the tokens so far."""

    def __init__(self, v: nn.Module, out: nn.Module) -> None:
        super().__init__()
        self.v_proj, self.o_proj = v, out
        self.q_proj = self.k_proj = nn.Identity()

    def forward(self, hidden_states: Tensor, **_kwargs: object) -> tuple[Tensor, None]:
        n = hidden_states.shape[1]
        weight = torch.tril(torch.ones(n, n, dtype=hidden_states.dtype)) / torch.arange(1, n + 1)[:, None]
        return self.o_proj(weight @ self.v_proj(hidden_states)), None


def linear_model() -> Model:
    """A Llama whose norms, attention and MLPs are linear maps, in float64."""
    model = tiny_model("mistral")
    model.hf.double()
    torch.manual_seed(3)
    d = model.d_model
    for layer in model.hf.model.layers:
        eye = torch.eye(d, dtype=torch.float64)
        layer.input_layernorm = _Linear(eye * 0.7)
        layer.post_attention_layernorm = _Linear(eye * 0.9)
        v = _Linear(torch.randn(d, d, dtype=torch.float64) / d)
        layer.self_attn = _Mixing(v, _Linear(torch.randn(d, d, dtype=torch.float64) / d))
        layer.mlp = _Linear(torch.randn(d, d, dtype=torch.float64) / d)
    model.hf.model.norm = _Linear(torch.eye(d, dtype=torch.float64))
    return model


DIRECTIONS: tuple[Direction, ...] = ("denoising", "noising")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_on_a_linear_model_attribution_is_patching(direction: Direction) -> None:
    model, pairs = linear_model(), made_pairs()
    kinds = ("residual", "attention", "mlp", "head")
    components = [component for kind in kinds for component in block_components(model, kind)]
    found = attribution_patching(
        model, pairs, components, LOGIT_DIFFERENCE, direction=direction, positions=(None, 1, "last")
    )
    for row, component in enumerate(components):
        for column, position in enumerate((None, 1, "last")):
            true = patched(model, pairs, component.at(position), direction, LOGIT_DIFFERENCE)
            assert abs(found.effect[row, column] - true) < 1e-12, (component, position)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_direction_is_the_derivative_at_its_own_run(direction: Direction) -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    model.hf.double()
    runs = TwoRuns.of(pairs, direction)
    component = Component("mlp", "blocks.1.hook_mlp_out")
    found = attribution_patching(model, pairs, [component], LOGIT_DIFFERENCE, direction=direction)
    with torch.no_grad():
        source, own = (
            capture(model, run.token_ids, [component.hook])[component.hook] for run in (runs.source, runs.changed)
        )

        def at(step: float) -> Tensor:
            edits = {component.hook: lambda x: x + step * (source - own)}
            return LOGIT_DIFFERENCE(last_outputs(model, runs.changed, edits), pairs.clean)

        slope = (at(1e-5) - at(-1e-5)) / 2e-5
        span = LOGIT_DIFFERENCE(last_outputs(model, runs.source), pairs.clean) - at(0)
    assert found.effect[0, 0] == pytest.approx(float(slope.sum() / span.sum()), rel=1e-6)


def gated_outcome(model: Model, pairs: PromptPairs) -> Outcome:
    """One thing times another: the first rises from corrupt to clean while the second, which gates it, falls."""
    with torch.no_grad():
        ends = [last_outputs(model, run) for run in (pairs.corrupt, pairs.clean)]

    def share(outputs: Tensor, token: int) -> Tensor:
        corrupt, clean = (end[:, token] for end in ends)
        return (outputs[:, token] - corrupt) / (clean - corrupt)

    return Outcome("gated", "", lambda out, _: (0.05 + share(out, 30)) * (3 - 2.5 * share(out, 31)))


def test_directions_must_not_be_mixed() -> None:
    """Where the gradient turns between the runs each estimate follows its own direction's patching, not the other's."""
    model, pairs = linear_model(), made_pairs()
    outcome = gated_outcome(model, pairs)
    components = [c for kind in ("attention", "mlp", "head") for c in block_components(model, kind)]
    true = {d: np.array([patched(model, pairs, c, d, outcome) for c in components]) for d in DIRECTIONS}
    first = {d: attribution_patching(model, pairs, components, outcome, direction=d).effect[:, 0] for d in DIRECTIONS}
    for direction, other in (DIRECTIONS, DIRECTIONS[::-1]):
        own = np.corrcoef(first[direction], true[direction])[0, 1]
        mixed = np.corrcoef(first[other], true[direction])[0, 1]
        assert own > 0.9 > mixed + 0.3, (direction, own, mixed)


def test_batches_change_nothing_and_results_load_again(tmp_path) -> None:
    model, pairs = tiny_model("llama"), made_pairs()
    components = block_components(model, "neuron", layers=[0]) + block_components(model, "head")
    whole, split = (
        attribution_patching(
            model, pairs, components, LOGIT_DIFFERENCE, direction="noising", positions=(1, 3), batch_size=size
        )
        for size in (None, 3)
    )
    np.testing.assert_allclose(split.effect, whole.effect, rtol=1e-4, atol=1e-6)
    whole.save(tmp_path / "effects.json")
    np.testing.assert_array_equal(EffectGrid.load(tmp_path / "effects.json").effect, whole.effect)


def test_a_feature_needs_its_dictionary() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    feature = Component("feature", "blocks.1.hook_resid_post", 3)
    with pytest.raises(ConfigError, match="got a feature at blocks"):
        attribution_patching(model, pairs, [feature], LOGIT_DIFFERENCE, direction="noising")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_integrated_gradients_are_complete_where_they_should_be(direction: Direction) -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    at_input = completeness(model, pairs, "blocks.0.hook_resid_pre", LOGIT_DIFFERENCE, direction=direction, n_steps=30)
    assert at_input.missing < 0.01
    middle = "blocks.1.hook_resid_post"
    own = completeness(model, pairs, middle, LOGIT_DIFFERENCE, direction=direction, path="activation", n_steps=30)
    assert own.missing < 0.01
    along_input = completeness(model, pairs, middle, LOGIT_DIFFERENCE, direction=direction, path="input", n_steps=30)
    assert along_input.missing > 2 * own.missing


def test_integrated_gradients_are_attribution_on_a_linear_model() -> None:
    model, pairs = linear_model(), made_pairs()
    heads = block_components(model, "head")
    plain = attribution_patching(model, pairs, heads, LOGIT_DIFFERENCE, direction="noising")
    for path in ("input", "activation"):
        along = integrated_gradients(model, pairs, heads, LOGIT_DIFFERENCE, direction="noising", path=path, n_steps=3)  # type: ignore[arg-type]
        np.testing.assert_allclose(along.effect, plain.effect, atol=1e-12, rtol=0)
    with pytest.raises(ConfigError, match="n_steps: got 0"):
        AlongPath("input", 0)


@contextmanager
def read_moved(model: Model, destination, step: Callable[[Tensor], Tensor]) -> Iterator[dict]:
    """Edits under which one destination alone reads a stream that is moved."""
    held: dict[str, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        held["stream"] = x.clone()
        return x

    def projected(name: str, columns: slice) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            norm = model.hf.get_submodule(model.hook(destination.norm).module_path)
            point = model.hook(name)
            out = model.hf.get_submodule(point.module_path).forward(norm.forward(step(held["stream"])))
            out = out if point.columns is None else point.columns.read(out)
            new = x.clone()
            new[:, :, columns] = out[:, :, columns]
            return new

        return change

    edits = {name: projected(name, columns) for name, columns in destination.projections}
    if destination.norm is None:
        yield {destination.stream: step}
    else:
        yield {destination.stream: keep, **edits}


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox_parallel", "gptj"])
def test_an_edge_is_the_derivative_of_what_its_reader_reads(family: str) -> None:
    model, pairs = tiny_model(family), made_pairs()
    model.hf.double()
    runs = TwoRuns.of(pairs, "noising")
    found = edge_attribution(model, pairs, LOGIT_DIFFERENCE, direction="noising")
    sources, destinations = sources_of(model), destinations_of(model)
    chosen = [d for d in destinations if d.name in ("a1.h1.q", "a1.h1.k", "a2.h0.v", "m1", "m2", LOGITS)]
    with torch.no_grad():
        hooks = list(dict.fromkeys(source.hook for source in sources))
        own, other = (capture(model, run.token_ids, hooks) for run in (runs.changed, runs.source))
        base, far = (LOGIT_DIFFERENCE(last_outputs(model, run), pairs.clean) for run in (runs.changed, runs.source))
        for source in (sources[0], sources[1], sources[model.sizes.n_heads]):
            change = other[source.hook] - own[source.hook]
            if source.head is not None:
                out = model.hf.get_submodule(model.hook(source.hook).module_path)
                change = head_output(out, change, source.head, model.sizes.d_head)
            for destination in chosen:

                def at(step: float, destination=destination, change=change) -> Tensor:
                    with read_moved(model, destination, lambda stream: stream + step * change) as edits:
                        return LOGIT_DIFFERENCE(last_outputs(model, runs.changed, edits), pairs.clean)

                # Norms and attention of some families compute in float32 whatever they are given: four wide steps.
                slope = (8 * (at(0.2) - at(-0.2)) - (at(0.4) - at(-0.4))).sum() / 2.4
                effect = found.at(source=source.name, destination=destination.name) * float((far - base).sum())
                assert effect == pytest.approx(float(slope), rel=5e-3, abs=1e-5), (source.name, destination.name)


def test_edges_into_one_cut_add_up_and_all_edges_do_not() -> None:
    model, pairs = linear_model(), made_pairs()
    # Stand-ins have no queries and keys to read.
    sources = sources_of(model)
    destination = destinations_of(model)[-1]
    runs = TwoRuns.of(pairs, "noising")
    found = gradients_at(model, runs.changed, [destination.stream], lambda out: LOGIT_DIFFERENCE(out, pairs.clean))
    gradient = gradient_at_input(model, destination, found)
    hooks = list(dict.fromkeys(source.hook for source in sources))
    own, other = (capture(model, run.token_ids, hooks) for run in (runs.changed, runs.source))
    total = torch.zeros(len(pairs), dtype=torch.float64)
    for source in sources:
        change = other[source.hook] - own[source.hook]
        if source.head is not None:
            out = model.hf.get_submodule(model.hook(source.hook).module_path)
            change = head_output(out, change, source.head, model.sizes.d_head)
        total += (change * gradient).sum((1, 2))
    with torch.no_grad():
        base, far = (LOGIT_DIFFERENCE(last_outputs(model, run), pairs.clean) for run in (runs.changed, runs.source))
    torch.testing.assert_close(total, far - base, rtol=0, atol=1e-12)


def test_edges_that_are_none_are_not_numbers() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    found = edge_attribution(model, pairs, LOGIT_DIFFERENCE, direction="denoising", n_steps=2)
    assert np.isnan(found.at(source="m1", destination="a1.h0.q"))
    assert np.isnan(found.at(source="a1.h0", destination="a1.h1.v"))
    assert np.isfinite(found.at(source="a1.h0", destination="m1"))
    assert np.isfinite(found.at(source="m2", destination=LOGITS))
    parallel = edge_attribution(tiny_model("gptj"), pairs, LOGIT_DIFFERENCE, direction="denoising")
    assert np.isnan(parallel.at(source="a1.h0", destination="m1"))
    for family in ("gemma2", "bert"):
        with pytest.raises(ConfigError, match="not a sum of its heads"):
            sources_of(tiny_model(family))


class _InFloat64(RandomDictionary):
    """Patching hands a dictionary float32."""

    def encode(self, x: Tensor) -> Code:
        return super().encode(x.double())


def test_features_are_attributed_where_they_are_patched() -> None:
    """On a linear model and a linear dictionary both agree, and neither touches the token that begins a row."""
    model, hook = linear_model(), "blocks.1.hook_resid_pre"
    begin = model.frame.begin
    assert begin is not None
    ends = {"answers": [30, 31], "foils": [34, 35]}
    pairs = PromptPairs(
        prompts_of([[begin, 6, 7, 8], [10, begin, 12, 13]], **ends),
        prompts_of([[begin, 24, 7, 8], [24, begin, 12, 13]], **ends),
    )
    dictionary = _InFloat64(hook, hook, model.d_model, 12, linear=True)
    features = [Component("feature", hook, index) for index in range(12)]
    held = {hook: dictionary}
    found = attribution_patching(model, pairs, features, LOGIT_DIFFERENCE, direction="noising", dictionaries=held)
    true = patch_sweep(model, pairs, listed_cells(features), direction="noising", dictionaries=held)
    np.testing.assert_allclose(found.effect[:, 0], true.effect, rtol=1e-4, atol=1e-6)


def test_logits_of_an_encoder_are_refused() -> None:
    model, pairs = tiny_model("bert"), made_pairs()
    components = block_components(model, "mlp")
    with pytest.raises(ConfigError, match="an encoder, which has no logits"):
        attribution_patching(model, pairs, components, LOGIT_DIFFERENCE, direction="noising")
    with pytest.raises(ConfigError, match="an encoder, which has no logits"):
        patch_sweep(model, pairs, listed_cells(components), outcome=kl_from)


@pytest.mark.parametrize("empty", ["components", "positions"])
def test_no_component_or_position_is_refused(empty: str) -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    asked = {"components": block_components(model, "mlp"), "positions": (None,)} | {empty: ()}
    with pytest.raises(ConfigError, match=f"got .*0 {empty}"):
        attribution_patching(model, pairs, outcome=LOGIT_DIFFERENCE, direction="noising", **asked)


def test_runs_that_do_not_differ_have_no_shares() -> None:
    model, pairs = tiny_model("gpt2"), made_pairs()
    same = PromptPairs(pairs.clean, pairs.clean)
    with pytest.raises(DataError, match="mean difference of 0 to take shares of"):
        attribution_patching(model, same, block_components(model, "mlp"), LOGIT_DIFFERENCE, direction="noising")

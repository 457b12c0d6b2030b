"""On programs compiled into transformers, patching and ablation find the compiled dimensions, and nothing else."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.ablation import ablation_sweep
from interp.components import Component
from interp.effects import Axis
from interp.forward import last_outputs
from interp.hooks import capture
from interp.interventions import Zero
from interp.outcomes import Outcome
from interp.patching import patch_sweep
from interp.prompts import PromptPairs, Prompts, prompts_of
from interp.sweep_cells import Cells, block_cells, every_position, part_cells
from tests.compiled_programs import PROGRAMS, Program, compiled

OUTPUTS = {
    "frac_prevs_x": "frac_prevs_11",
    "hist": "hist_9",
    "length": "length_1",
    "reverse": "reverse_3",
    "shuffle_dyck1": "shuffle_dyck_18",
    "sort_unique": "sort_14",
}


@pytest.fixture
def program(data_folder: Path, request: pytest.FixtureRequest) -> Iterator[Program]:
    with compiled(data_folder / "models" / "tracr", request.param) as found:
        yield found


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("program", names, indirect=True)


def dimension_cells(program: Program, hooks: Sequence[str], positions: Sequence[int]) -> Cells:
    """Every residual dimension at every position before every block, and after the last."""
    axes = (
        Axis("hook", tuple(hooks)),
        Axis("dimension", tuple(program.labels)),
        Axis("position", tuple(map(str, positions))),
    )
    parts = [Component("neuron", hook, i, at) for hook in hooks for i in range(len(program.labels)) for at in positions]
    return Cells(axes, tuple(parts))


def boundaries(program: Program) -> list[str]:
    n = program.model.n_layers
    return [*(f"blocks.{layer}.hook_resid_pre" for layer in range(n)), f"blocks.{n - 1}.hook_resid_post"]


@only(*PROGRAMS)
def test_activations_are_those_that_the_compiler_s_own_program_gave(program: Program) -> None:
    hooks = [
        f"blocks.{layer}.{name}"
        for layer in range(program.model.n_layers)
        for name in ("hook_resid_mid", "hook_resid_post")
    ]
    for example in range(8):
        ids = torch.tensor([program.ids[example]])
        found = capture(program.model, ids, hooks)
        for index, hook in enumerate(hooks):
            expected = program.acts[f"ex{example}/residual_{index}"]
            torch.testing.assert_close(found[hook][0], expected, rtol=0, atol=1e-5)


@only("frac_prevs_x")
def test_patching_finds_the_one_dimension_that_carries_a_fraction(program: Program) -> None:
    word = program.words
    clean = [word[w] for w in ("BOS", "w", "x", "y", "z")]
    corrupt = [word[w] for w in ("BOS", "w", "z", "y", "z")]
    pairs = PromptPairs(prompts_of([clean]), prompts_of([corrupt]))
    (answer,) = program.dimensions("frac_prevs_11")
    outcome = Outcome("fraction", "", lambda outputs, _: outputs[:, answer])
    hooks, positions = boundaries(program), range(5)
    found = patch_sweep(program.model, pairs, dimension_cells(program, hooks, positions), outcome=outcome)
    expected = np.zeros(found.effect.shape)
    # x is read as a token, marked by the first MLP, and averaged over what stands before by the second attention.
    for place, (variable, at) in enumerate((("tokens:x", 2), ("map_13", 2), ("frac_prevs_11", 4))):
        expected[place, program.labels.index(variable), at] = 1
    np.testing.assert_allclose(found.effect, expected, rtol=0, atol=1e-5)
    assert found.reference == pytest.approx({"clean": 0.25, "corrupt": 0.0}, abs=1e-5)

    blocks = patch_sweep(
        program.model,
        pairs,
        block_cells(program.model, ("attention", "mlp"), places=every_position(program.model, pairs)),
        outcome=outcome,
    )
    own = np.zeros(blocks.effect.shape)
    own[1, 0, 2] = own[0, 1, 4] = 1
    np.testing.assert_allclose(blocks.effect, own, rtol=0, atol=1e-5)


@only("reverse")
@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_patching_finds_the_token_until_it_is_moved(program: Program, direction: str) -> None:
    word = program.words
    rows = [[word[w] for w in ("BOS", first, "c", "d", "c", "d")] for first in ("a", "b")]
    pairs = PromptPairs(prompts_of(rows[:1]), prompts_of(rows[1:]))
    to_a, to_b = (program.labels.index(f"reverse_3:{letter}") for letter in "ab")
    outcome = Outcome("a - b", "", lambda outputs, _: outputs[:, to_a] - outputs[:, to_b])
    hooks = boundaries(program)
    cells = dimension_cells(program, hooks, range(6))
    found = patch_sweep(program.model, pairs, cells, direction=direction, outcome=outcome)
    expected = np.zeros(found.effect.shape)
    for letter in "ab":
        expected[:4, program.labels.index(f"tokens:{letter}"), 1] = 0.5
        expected[4, program.labels.index(f"reverse_3:{letter}"), 5] = 0.5
    np.testing.assert_allclose(found.effect, expected, rtol=0, atol=1e-5)
    assert abs(found.reference["clean"] - 1) < 1e-5
    assert abs(found.reference["corrupt"] + 1) < 1e-5


@only("reverse")
def test_ablation_finds_the_heads_and_mlps_of_the_program(program: Program) -> None:
    prompts = prompts_of([ids for ids in program.ids if len(ids) == 7][:8])
    outcome = wrong_output(program, prompts)
    attention, mlp = (
        ablation_sweep(program.model, prompts, block_cells(program.model, (kind,)), Zero(), outcome=outcome).effect
        for kind in ("attention", "mlp")
    )
    # Length (attention and MLP 0), the opposite index in two steps (MLPs 1 and 2), the token there (attention 3).
    assert attention[[0, 3]].min() > 0.5
    np.testing.assert_allclose(attention[[1, 2]], 0, atol=1e-6)
    assert mlp[:3].min() > 0.5
    assert abs(mlp[3]) < 1e-6
    # A block writes a bias of zero: without its one head it is without attention.
    heads = ablation_sweep(program.model, prompts, part_cells(program.model, "head"), Zero(), outcome=outcome)
    np.testing.assert_allclose(heads.effect.flatten(), attention, atol=1e-5)


def wrong_output(program: Program, prompts: Prompts) -> Outcome:
    """Distance of the output variable at the last token from what it is without intervention."""
    dims = program.dimensions(OUTPUTS[program.name])
    with torch.no_grad():
        right = last_outputs(program.model, prompts)[:, dims]

    def function(outputs: torch.Tensor, rows: Prompts) -> torch.Tensor:
        return (outputs[:, dims] - right.repeat(len(rows) // len(right), 1)).norm(dim=1)

    return Outcome("distance", "", function)


def live_dimensions(program: Program) -> list[set[int]]:
    """Dimensions before each block, and after the last, from which the weights lead on to the output variable."""
    live = [set(program.dimensions(OUTPUTS[program.name]))]
    n_heads = program.model.sizes.n_heads
    for layer in reversed(range(program.model.n_layers)):
        here, name = set(live[0]), f"transformer/layer_{layer}"
        reads, writes = (program.weights[f"{name}/mlp/linear_{part}/w"] for part in (1, 2))
        here |= _read_by([n for n in range(writes.shape[0]) if _touches(writes[n], live[0])], reads)
        out = program.weights[f"{name}/attn/linear/w"].unflatten(0, (n_heads, -1))
        after = set(here)
        for head in range(n_heads):
            if any(_touches(row, after) for row in out[head]):
                for part in ("query", "key", "value"):
                    weight = program.weights[f"{name}/attn/{part}/w"].unflatten(1, (n_heads, -1))[:, head]
                    here |= _read_by(range(weight.shape[1]), weight)
        live.insert(0, here)
    return live


def _touches(row: torch.Tensor, dims: set[int]) -> bool:
    return bool(dims & set(row.nonzero()[:, 0].tolist()))


def _read_by(units: Sequence[int], weight: torch.Tensor) -> set[int]:
    return {int(dim) for unit in units for dim in weight[:, unit].nonzero()[:, 0]}


@only(*PROGRAMS)
def test_ablating_what_no_weight_reads_changes_nothing(program: Program) -> None:
    longest = max(len(ids) for ids in program.ids)
    prompts = prompts_of([ids for ids in program.ids if len(ids) == longest][:4])
    hooks, live = boundaries(program), live_dimensions(program)
    axes = (Axis("hook", tuple(hooks)), Axis("dimension", tuple(program.labels)))
    parts = [Component("neuron", hook, i) for hook in hooks for i in range(len(program.labels))]
    found = ablation_sweep(
        program.model, prompts, Cells(axes, tuple(parts)), Zero(), outcome=wrong_output(program, prompts)
    )
    for place, dims in enumerate(live):
        dead = [i for i in range(len(program.labels)) if i not in dims]
        assert np.abs(found.effect[place, dead]).max() < 1e-6, hooks[place]
        assert found.effect[place, sorted(dims)].max() > 0.01, hooks[place]
        assert dead

"""The notebooks of analyses: as they are committed, run small here, and run whole where there is time."""

import ast
import re
import warnings
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
PLOTLY = "application/vnd.plotly.v1+json"
SMALL = {
    "codebooks": {
        "BASE_STEPS": 20,
        "CODE_STEPS": 10,
        "N_ROWS": 16,
        "N_CONTROLS": 2,
        "LANGUAGE_TOKENS": 3000,
        "INSPECTED": 6000,
    },
    "patching": {"STEPS": 30, "N_PAIRS": 6},
    "probing": {"N_TEXTS": 250, "EXAMPLES": 150},
    "future_lens": {"TUNED_TOKENS": 2048, "EXAMPLES": 256, "EVALUATION": 24, "COUNTED": 20_000},
    "steering": {"SAE_TOKENS": 4096, "N_CONTROLS": 4, "N_NAMES": 8},
}
NAMES = sorted(SMALL)
MOST_BYTES = 900_000


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs_of(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed_by(notebook):
    return "".join(output.get("text", "") for output in outputs_of(notebook))


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_committed_as_they_ran(name):
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs_of(notebook) if output.output_type == "error"]
    assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES
    assert "/tmp/" not in "".join(cell.source for cell in notebook.cells)


@pytest.mark.parametrize("name", NAMES)
def test_figures_have_pictures_for_viewers_without_scripts(name):
    figures = [output.data for output in outputs_of(read(name)) if PLOTLY in output.get("data", {})]
    assert figures
    assert all("image/png" in data for data in figures)


def small(source, sizes):
    """The cell with other sizes; every size is set somewhere in the notebook, once."""
    for size, value in sizes.items():
        source = re.sub(rf"^{size} = [\d_]+", f"{size} = {value}", source, flags=re.MULTILINE)
    return source


def shown_by(cells):
    """What the last line of each cell shows, run one after the other in one namespace."""
    namespace, shown = {"__name__": "notebook"}, []
    for source in cells:
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), namespace)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), namespace))
    return shown


# Lenses train and measure twice over, patching goes through every component, codes are counted on much text: too long
# for every run, however small.
LONG = ("codebooks", "future_lens", "patching")
RUN_SMALL = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in NAMES]


@pytest.mark.parametrize("name", RUN_SMALL)
def test_every_cell_runs_with_small_sizes(name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cells = [cell.source for cell in read(name).cells if cell.cell_type == "code"]
    assert all(sum(f"\n{size} = " in f"\n{source}" for source in cells) == 1 for size in SMALL[name])
    shown = shown_by([small(source, SMALL[name]) for source in cells])
    assert any(isinstance(each, go.Figure) for each in shown)


def run_whole(name):
    notebook = read(name)
    # The kernel's client warns of event loops and of debuggers; neither is ours.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nbclient import NotebookClient

        NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    return printed_by(notebook)


def figures_in(line):
    return [float(found) for found in re.findall(r"[-+]?\d+\.\d+", line)]


def line_of(printed, start):
    return next(line for line in printed.splitlines() if line.startswith(start))


@pytest.mark.slow
def test_patching_finds_two_heads_that_the_task_needs():
    printed = run_whole("patching")
    shares = {start: figures_in(line_of(printed, start)) for start in ("a girl", "one gender")}
    assert shares["a girl"][-1] > 1 > shares["one gender"][-1]
    nothing, two, others = (
        figures_in(line_of(printed, f"without {gone}"))[-1] for gone in ("nothing", "the two heads", "two others")
    )
    assert two < 0.3 * nothing
    assert others > 0.7 * nothing


@pytest.mark.slow
def test_probing_finds_use_above_the_embedding_alone():
    printed = run_whole("probing")
    _, _, embedding, *blocks = figures_in(next(x for x in printed.splitlines() if re.match("use +new word", x)))
    assert embedding < 0.7 < max(blocks) - 0.1


@pytest.mark.slow
def test_lenses_read_what_comes_next_and_the_tuned_one_is_nearer():
    printed = run_whole("future_lens")
    logit = figures_in(line_of(printed, "logit lens"))
    tuned = figures_in(line_of(printed, "tuned lens "))
    assert logit[-1] == tuned[-1] == 1
    assert all(after > before for before, after in zip(logit[:-1], tuned[:-1], strict=True))


@pytest.mark.slow
def test_steering_turns_pronouns_and_leace_leaves_no_linear_trace():
    printed = run_whole("steering")
    low, *_, high = figures_in(line_of(printed, "mean difference"))[:5]
    assert low < -5 < 5 < high
    before = figures_in(line_of(printed, "as it is "))
    after = figures_in(line_of(printed, "after LEACE"))
    assert before[1] > 0.9
    assert after[0] <= 0.55

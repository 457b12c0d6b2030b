import json
from pathlib import Path

import pytest

from interp.cli import main
from tests.stories import tiny_pretraining


def write_config(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(tiny_pretraining(folder).to_yaml())
    return path


def test_pretrain_prints_figures_and_leaves_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = str(write_config(tmp_path))
    assert main(["pretrain", config, "--tokens", "1k", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (Path(facts["model"]) / "model.safetensors").is_file()
    assert facts["heldout_bits_per_byte"] > 0
    assert main(["pretrain", config, "--tokens", "1k", "--json", "--resume"]) == 0
    assert json.loads(capsys.readouterr().out) == facts


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--dataset", "$UNSET_VARIABLE/stories.jsonl"], "UNSET_VARIABLE"),
        (["--architecture.n-heads", "3"], "n_heads"),
        (["--evaluate-every", "3"], "evaluate_every"),
        (["--tokens", "10"], "tokens"),
        (["--peer", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
):
    assert main(["pretrain", str(write_config(tmp_path)), *flags]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("interp: ")
    assert told in last

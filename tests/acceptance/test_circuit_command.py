"""`interp circuit` and `interp attribute`: from runs and prompts to figures, JSON and a page, errors in one line."""

import json

import pytest
from click.testing import CliRunner

from interp.circuits import Circuit
from interp.cli import cli, main
from tests.browsing import Visit, expect

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
_SMALL = ("--shuffle.block-tokens", "1024", "--data.batch-tokens", "1024")
NAMES = (("Tom", "Lily"), ("Jack", "Mia"), ("Ben", "Anna"), ("Bob", "Emma"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("circuit")
    for layer, hook in enumerate(HOOKS):
        flags = ["--hook", hook, "--tokens", "1024", "--batch-size", "256", "--d-sae", "32", "--k", "4", *_SMALL]
        done = CliRunner().invoke(cli, ["train", *flags, "--out", str(folder / f"layer_{layer}")])
        assert done.exit_code == 0, done.output
    lines = []
    for number, (he, she) in enumerate(NAMES):
        for own, other, answer, foil in ((he, she, " he", " she"), (she, he, " she", " he")):
            pair = {"clean": f"The dog saw {own} and then", "corrupt": f"The dog saw {other} and then"}
            split = ("train", "heldout")[number % 2]
            lines.append({**pair, "answer": answer, "foil": foil, "cluster": he, "split": split})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_features_of_two_hooks_become_a_circuit_with_curves_and_a_page(folder, browser):
    runs = [str(folder / f"layer_{layer}") for layer in (0, 1)]
    given = ["--prompts", str(folder / "pairs.jsonl"), "--nodes", "0.01", "--edges", "0.001", "--steps", "2"]
    drawn = ["--random", "3", "--random-sizes", "4", "--out", str(folder / "out"), "--json"]
    result = CliRunner().invoke(cli, ["circuit", *runs, *given, *drawn])
    assert result.exit_code == 0, result.output
    circuit = Circuit.load(folder / "out" / "circuit.json")
    assert json.loads(result.stdout) == circuit.to_json()
    assert {node.hook for node in circuit.nodes} == set(HOOKS)
    with_errors, without = circuit.curves
    assert with_errors.faithfulness[-1] == pytest.approx(1)
    assert without.faithfulness[0] == pytest.approx(0)
    assert circuit.provenance["prompts"]["n_heldout"] == 4
    # An SAE at the last of the hooks is all that the rest of the model sees: ablation restores the corrupt outcome.
    assert circuit.reference["empty"] == pytest.approx(-circuit.reference["clean"], rel=1e-3)
    strongest = circuit.nodes[0]
    visit = Visit(browser, folder / "out" / "circuit.html")
    visit.page.goto(visit.address)
    visit.page.wait_for_selector(".graph .node")
    assert visit.page.locator(".graph .node").count() == len(circuit.nodes)
    assert visit.page.locator(".graph .edge").count() == len(circuit.edges)
    visit.page.locator(f'.node[data-name="{strongest.name}"]').click()
    expect(visit.page.locator(".detail").get_by_text(strongest.hook, exact=True)).to_have_count(1)
    assert visit.page.locator(".detail").inner_text().count(strongest.hook) == 1
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    visit.context.close()


def test_components_need_no_run(folder):
    given = ["--prompts", str(folder / "pairs.jsonl"), "--steps", "2", "--random", "2", "--nodes", "0.1"]
    given += ["--out", str(folder / "components")]
    result = CliRunner().invoke(cli, ["circuit", *given])
    assert result.exit_code == 0, result.output
    assert "embed" in result.stdout
    assert "Faithfulness on 4 held-out pairs, heads and MLPs" in result.stdout
    assert result.stdout.splitlines()[-1] == f"page  {(folder / 'components' / 'circuit.html').as_uri()}"


def test_attribution_is_told_beside_patching(folder):
    given = [str(folder / "pairs.jsonl"), "--components", "head", "--out", str(folder / "attribution")]
    result = CliRunner().invoke(cli, ["attribute", *given])
    assert result.exit_code == 0, result.output
    checks = json.loads((folder / "attribution" / "attribution.json").read_text())["checks"]
    assert [check["direction"] for check in checks] == ["denoising", "noising"]
    assert all(check["correlation"] > 0.8 for check in checks)
    page = folder / "attribution" / "attribution.html"
    assert page.exists()
    assert result.stdout.splitlines()[-1] == f"page  {page.as_uri()}"


def test_mistakes_are_told_in_one_line(folder, capsys):
    (folder / "broken.jsonl").write_text('{"clean": "a"}\n')
    assert main(["circuit", "--prompts", str(folder / "broken.jsonl")]) == 2
    assert "line 1" in capsys.readouterr().err
    assert main(["attribute", "--components", "wing"]) == 2
    assert "got 'wing'" in capsys.readouterr().err
    assert main(["attribute", "--components", ""]) == 2
    assert "components: got none" in capsys.readouterr().err
    assert main(["circuit", "--baseline", "mean"]) == 2
    assert "baseline: got mean for heads and MLPs" in capsys.readouterr().err
    assert main(["circuit", "--random-sizes", "4,-1"]) == 2
    assert "expected numbers from 1 on" in capsys.readouterr().err
    assert main(["circuit", str(folder / "layer_0"), str(folder / "layer_0")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()[-1]) < 400

"""Finetuning with codebooks: everything learns, a run goes on bit for bit, what is saved is what was trained."""

import json
import shutil

import pytest
import torch

from interp.checkpoints import restore_state, take_state
from interp.codebooks.batches import NO_TARGET, LanguageBatch
from interp.codebooks.config import CodebookConfig
from interp.codebooks.evaluation import LanguageScores, score_language
from interp.codebooks.files import load_codebook_model
from interp.codebooks.insertion import Codebooks, Insertion, new_codebooks, site_hooks
from interp.codebooks.task import CodebookTask
from interp.codebooks.training import fresh_model, prepare_codebooks, train_codebooks
from interp.datasets import open_stream
from interp.errors import ArtifactError, ConfigError, DataError
from interp.loop import Schedule, fit
from interp.storage import sha256_of
from interp.token_rows import TokenBatch
from tests.families import save_model, tiny_model, tiny_tokens


class _Batches:
    """The same few rows in turn."""

    def __init__(self):
        self.at = 0

    def __next__(self):
        self.at += 1
        ids = tiny_tokens(seed=self.at)
        targets = torch.full_like(ids, NO_TARGET)
        targets[:, :-1] = ids[:, 1:]
        return LanguageBatch(ids, targets)

    def cursor(self):
        return {"at": self.at}

    def seek(self, cursor):
        self.at = cursor["at"]


def _task(kind="gpt2", **more):
    model = tiny_model(kind)
    torch.manual_seed(5)
    codebooks = new_codebooks(model, site_hooks(model, ("attn", "mlp")), n_codes=20, k=2)
    return CodebookTask(model, codebooks, **more)


def _run(task, optimiser, batches, n, start=0):
    steps = fit(task, optimiser, batches, schedule=Schedule(lr=1e-2), n_steps=n, start_step=start)
    return [float(done.report.loss.detach()) for done in steps]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_every_parameter_is_in_the_optimiser_once_and_moves(family, kind):
    task = _task(family)
    optimiser = task.optimiser(1e-2, kind)
    held = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in task.parameters())
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    _run(task, optimiser, _Batches(), 3)
    still = [name for name, p in task.named_parameters() if torch.equal(p, before[name])]
    # The last rows of a table of positions are never read.
    assert still == []


def test_the_loss_is_the_models_plus_the_weighed_distance():
    task, batch = _task(reconstruction=0.5), next(_Batches())
    report = task.losses(batch)
    expected = report.terms["cross_entropy"] + 0.5 * report.terms["reconstruction"]
    torch.testing.assert_close(report.loss.detach(), expected)
    logits = task.hf(batch.token_ids).logits
    nats = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.token_ids[:, 1:].flatten())
    torch.testing.assert_close(report.terms["cross_entropy"], nats)
    torch.testing.assert_close(task.losses(batch).loss, report.loss)


def test_without_codebooks_it_is_a_plain_finetune():
    model, batch = tiny_model("gpt2"), next(_Batches())
    report = CodebookTask(model, Codebooks({})).losses(batch)
    assert set(report.terms) == {"cross_entropy", "accuracy"}
    assert report.loss == report.terms["cross_entropy"]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_run_that_was_cut_goes_on_bit_for_bit(kind):
    whole = _task(replace_dead_every=2)
    losses = _run(whole, whole.optimiser(1e-2, kind), _Batches(), 6)
    first, batches = _task(replace_dead_every=2), _Batches()
    optimiser = first.optimiser(1e-2, kind)
    steps = fit(first, optimiser, batches, schedule=Schedule(lr=1e-2), n_steps=6)
    for done in steps:
        if done.step == 3:
            break
    state = take_state(first, optimiser, batches, step=3, n_tokens=0, metrics_offset=0)
    second, later = _task(replace_dead_every=2), _Batches()
    torch.manual_seed(99)
    other = second.optimiser(1e-2, kind)
    restore_state(state, second, other, later)
    assert _run(second, other, later, 6, start=3) == losses[3:]
    for a, b in zip(whole.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_hits_count_the_active_codes():
    task = _task()
    _run(task, task.optimiser(1e-3), _Batches(), 2)
    quantiser = task.codebooks["blocks.0.attn.hook_z"]
    # Two batches of 3 rows with 10 predicting tokens, 2 codes in each of 2 heads.
    assert quantiser.hits.sum(1).tolist() == [120, 120]


def test_closing_takes_the_codebooks_out():
    task = _task()
    before = tiny_model("gpt2").hf(tiny_tokens()).logits
    assert not torch.equal(task.hf(tiny_tokens()).logits, before)
    task.close()
    assert torch.equal(task.hf(tiny_tokens()).logits, before)


def test_targets_stay_within_documents():
    ids = torch.arange(8).view(2, 4) + 4
    document = torch.tensor([[0, 0, 1, 1], [2, 2, 2, -1]])
    batch = TokenBatch(ids, document >= 0, None, torch.zeros_like(ids), document)
    targets = LanguageBatch.of(batch).targets
    assert targets.tolist() == [[5, -100, 7, -100], [9, 10, -100, -100]]


def test_from_scratch_is_the_same_architecture_with_other_weights():
    model = tiny_model("llama")
    one, same, other = (fresh_model(model, seed) for seed in (0, 0, 1))
    shapes = {name: p.shape for name, p in model.hf.named_parameters()}
    assert {name: p.shape for name, p in one.hf.named_parameters()} == shapes
    assert one.content_hash == same.content_hash != other.content_hash


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codebook")
    save_model(tiny_model("gpt_neox_parallel"), folder / "base")
    words = [" ".join(f"w{4 + (i * j) % 30}" for j in range(1, 12)) for i in range(1, 60)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in words))
    settings = {
        "model": str(folder / "base"), "dataset": str(folder / "text.jsonl"), "out": str(folder / "run"),
        "n_codes": 12, "k": 2, "tokens": 600, "initial": "kmeans", "replace_dead_every": 3,
        "data": {"context_size": 16, "batch_tokens": 120, "heldout_share": 0.2},
        "recording": {"log_every": 1, "checkpoint_every": 2},
    }  # fmt: skip
    before = {path.name: sha256_of(path) for path in (folder / "base").iterdir()}
    train_codebooks(CodebookConfig.parse(settings))
    return folder, settings, before


def test_the_base_model_is_only_read(run):
    folder, _, before = run
    assert {path.name: sha256_of(path) for path in (folder / "base").iterdir()} == before


def test_what_is_saved_is_what_was_scored(run):
    folder, _, _ = run
    held = load_codebook_model(folder / "run")
    scores = LanguageScores.load(folder / "run" / "evaluation.json")
    assert scores.to_json() == json.loads((folder / "run" / "evaluation.json").read_text())
    config = held.config
    heldout = open_stream(config.dataset, held.model, config.data, split="heldout")
    with held.inserted():
        again = score_language(held.model, heldout.iter_pass(), n_tokens=config.evaluation_tokens, split="heldout")
    assert again == scores
    without = score_language(held.model, heldout.iter_pass(), n_tokens=config.evaluation_tokens)
    assert without.loss_nats != pytest.approx(scores.loss_nats, rel=1e-3)
    assert scores.loss_interval[0] < scores.loss_nats < scores.loss_interval[1]


@pytest.mark.parametrize(
    ("change", "says"), [({"layers": [9]}, "layers: got 9"), ({"layers": [0, -1]}, "layers: got -1")]
)
def test_a_mistake_is_told_before_the_folder_is_taken(run, tmp_path, change, says):
    _, settings, _ = run
    settings = settings | {"out": str(tmp_path / "run"), "tokens": 120}
    with pytest.raises(ConfigError, match=says):
        train_codebooks(CodebookConfig.parse(settings | change))
    assert not (tmp_path / "run").exists()
    train_codebooks(CodebookConfig.parse(settings))


@pytest.mark.parametrize("text", ["w5 w6 w7 w8", "w5"])
def test_text_without_anything_to_score_on_is_told_before_training(run, tmp_path, text):
    _, settings, _ = run
    (tmp_path / "one.txt").write_text(text)
    settings = settings | {"out": str(tmp_path / "run"), "dataset": str(tmp_path / "one.txt")}
    with pytest.raises(DataError):
        train_codebooks(CodebookConfig.parse(settings))
    assert not (tmp_path / "run").exists()


def test_scores_on_the_text_of_training_are_not_called_held_out(run, tmp_path):
    _, settings, _ = run
    data = settings["data"] | {"heldout_share": 0.0}
    settings = settings | {"out": str(tmp_path / "run"), "tokens": 120, "data": data}
    train_codebooks(CodebookConfig.parse(settings))
    scores = LanguageScores.load(tmp_path / "run" / "evaluation.json")
    assert scores.split == "all"
    assert "training read too" in scores._repr_html_()
    assert LanguageScores.load(run[0] / "run" / "evaluation.json").split == "heldout"
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(scores.to_json() | {"schema_version": 9}))
    with pytest.raises(ArtifactError, match="another version"):
        LanguageScores.load(path)


def test_codes_are_not_the_numbers_of_weights_from_scratch(run):
    _, settings, _ = run
    model = tiny_model("gpt_neox_parallel")
    plain = CodebookConfig.parse(settings | {"initial": "normal"})
    torch.manual_seed(plain.seed)
    stream = torch.randn(12, 8)
    first = next(q for _, q in prepare_codebooks(plain, model, iter(())).items())
    # As ever where weights are not drawn.
    torch.testing.assert_close(first.codes[0].flatten()[:8], stream.flatten()[:8])
    scratch = CodebookConfig.parse(settings | {"initial": "normal", "from_scratch": True})
    other = next(q for _, q in prepare_codebooks(scratch, model, iter(())).items())
    assert not torch.isin(other.codes, first.codes).any()


def test_an_interrupted_run_ends_with_the_same_bytes(run, tmp_path):
    folder, settings, _ = run
    again = CodebookConfig.parse(settings | {"out": str(tmp_path / "run")})
    from interp.codebooks import training

    saved = training.save_codebooks
    training.save_codebooks = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_codebooks(again)
    finally:
        training.save_codebooks = saved
    newest = tmp_path / "run" / "checkpoints" / "step_5"
    (tmp_path / "run" / "checkpoints" / "latest").write_text("step_4\n")
    assert newest.exists()
    train_codebooks(again, resume=True)
    for name in ("codebooks/codebooks.safetensors", "model/model.safetensors", "evaluation.json"):
        assert sha256_of(tmp_path / "run" / name) == sha256_of(folder / "run" / name)


def test_other_weights_beside_the_codebooks_are_refused(run, tmp_path):
    _, settings, _ = run
    train_codebooks(CodebookConfig.parse(settings | {"out": str(tmp_path / "run"), "tokens": 120}))
    tiny_model("gpt_neox_parallel", seed=9).hf.save_pretrained(tmp_path / "run" / "model")
    with pytest.raises(ArtifactError, match="other weights"):
        load_codebook_model(tmp_path / "run")


def test_a_damaged_list_of_codebooks_is_told(run, tmp_path):
    folder, _, _ = run
    shutil.copytree(folder / "run", tmp_path / "run")
    path = tmp_path / "run" / "codebooks" / "codebooks.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"codebooks": ["blocks.0.attn.hook_z"]}))
    with pytest.raises(ArtifactError, match="does not fit"):
        load_codebook_model(tmp_path / "run")


def test_a_finished_run_is_only_opened(run):
    folder, settings, _ = run
    before = sha256_of(folder / "run" / "manifest.json")
    train_codebooks(CodebookConfig.parse(settings), resume=True)
    assert sha256_of(folder / "run" / "manifest.json") == before


def test_an_inserted_model_is_scored_as_it_stands():
    model, ids = tiny_model("gpt2"), tiny_tokens(4)
    document = torch.arange(4)[:, None].expand(ids.shape).contiguous()
    batch = TokenBatch(ids, document >= 0, torch.ones_like(ids), torch.zeros_like(ids), document)
    plain = score_language(model, [batch], n_tokens=10)
    nats = torch.nn.functional.cross_entropy(model.hf(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert plain.loss_nats == pytest.approx(float(nats), rel=1e-5)
    with Insertion(model, new_codebooks(model, site_hooks(model, ("resid",)), n_codes=5)):
        assert score_language(model, [batch], n_tokens=10).loss_nats != pytest.approx(plain.loss_nats, rel=1e-3)

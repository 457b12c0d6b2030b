"""Encoders: rows between [CLS] and [SEP], the attention mask always given, no loss where no token is predicted."""

import shutil

import pytest
import torch
from transformers import AutoModelForMaskedLM

from interp.activations.harvest import harvest_batch
from interp.datasets import DataConfig, open_stream
from interp.errors import ConfigError, ModelError
from interp.hooks import capture, edit
from interp.models import load_model, wrap_model
from saes.evaluation import Evaluation, evaluate
from saes.logit_effects import logit_effects
from tests.families import CONTEXT, D_VOCAB, ENCODERS, tiny_model, tiny_tokenizer, tiny_tokens
from tests.specimens import perfect_sae, random_sae, tiny_stream
from tests.texts import tiny_texts, write_jsonl

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(params=ENCODERS)
def model(request):
    return tiny_model(request.param)


def save(hf, tokenizer, folder):
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_saved_encoder_comes_back(model, tmp_path):
    loaded = load_model(str(save(model.hf, model.tokenizer, tmp_path / "m")), device="cpu")
    assert (loaded.causal, loaded.unembedding, loaded.final_norm) == (False, None, None)
    assert (loaded.n_layers, loaded.d_vocab, loaded.context_size, loaded.bos_token_id) == (3, D_VOCAB, CONTEXT, 0)
    ours, theirs = (capture(m, tiny_tokens(), [HOOK])[HOOK] for m in (loaded, model))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "mpnet"])
def test_of_a_checkpoint_with_heads_the_body_is_read(kind, tmp_path):
    body = tiny_model(kind)
    headed = AutoModelForMaskedLM.from_config(body.hf.config)
    setattr(headed, headed.base_model_prefix, body.hf)
    loaded = load_model(str(save(headed, body.tokenizer, tmp_path / "m")), device="cpu")
    x = capture(body, tiny_tokens(), [HOOK])[HOOK]
    assert torch.equal(capture(loaded, tiny_tokens(), [HOOK])[HOOK], x)
    assert torch.equal(capture(wrap_model(headed, body.tokenizer, name="headed"), tiny_tokens(), [HOOK])[HOOK], x)


def test_a_checkpoint_without_its_body_is_refused(tmp_path):
    model = tiny_model("bert")
    folder = save(model.hf, model.tokenizer, tmp_path / "m")
    shutil.copy(folder / "config.json", tmp_path / "config.json")
    save(tiny_model("distilbert").hf, model.tokenizer, folder)
    shutil.copy(tmp_path / "config.json", folder / "config.json")
    with pytest.raises(ModelError, match="do not belong together"):
        load_model(str(folder))


def test_rows_stand_between_their_marks_which_are_not_kept(model, tmp_path):
    texts = tiny_texts(30, longest=40)
    stream = open_stream(
        str(write_jsonl(tmp_path / "t.jsonl", texts)), model, DataConfig(context_size=12, batch_tokens=48), split="all"
    )
    words = 0
    for batch in stream.iter_pass():
        lengths = batch.attention_mask.sum(1)
        assert batch.token_ids[:, 0].eq(model.tokenizer.cls_token_id).all()
        assert batch.token_ids.gather(1, lengths[:, None] - 1).eq(model.tokenizer.sep_token_id).all()
        assert batch.n_kept == int((lengths - 2).sum())
        words += batch.n_kept
    assert words == sum(len(text.split()) for text in texts)


def test_harvested_activations_do_not_depend_on_the_padding(model, tmp_path):
    """Each document alone, without padding and mask, gives what it gives in a padded batch."""
    texts = ["w4 w5 w6 w7 w8 w9", "w10 w11", "w12"]
    config = DataConfig(context_size=12)
    stream = open_stream(str(write_jsonl(tmp_path / "t.jsonl", texts)), model, config, split="all")
    together = harvest_batch(model, next(stream.iter_pass()), (HOOK,))
    for document, text in enumerate(texts):
        ids = torch.tensor([[0, *model.tokenizer(text)["input_ids"], model.tokenizer.sep_token_id]])
        alone = capture(model, ids, [HOOK])[HOOK][0, 1:-1]
        x = together.acts[HOOK][together.document == document]
        assert (x - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_without_the_mask_padding_would_show():
    """Why the mask is given: without it the test above would fail by a thousand tolerances."""
    model = tiny_model("bert")
    ids = torch.cat([tiny_tokens(1, 4), torch.full((1, 6), model.tokenizer.pad_token_id)], dim=1)
    mask = (torch.arange(10) < 4).long()[None]
    masked = capture(model, ids, [HOOK], attention_mask=mask)[HOOK][:, :4]
    bare = capture(model, ids, [HOOK])[HOOK][:, :4]
    assert (masked - bare).abs().max() > 1e-2 * masked.abs().max()


def test_packed_rows_are_refused(tmp_path):
    path = str(write_jsonl(tmp_path / "t.jsonl", tiny_texts(3)))
    with pytest.raises(ConfigError, match="would see each other"):
        open_stream(path, tiny_model("bert"), DataConfig(context_size=12, rows="packed"))


def test_the_stream_is_what_attention_and_mlp_add_to(model):
    acts = capture(model, tiny_tokens(), list(model.hooks))
    for layer in range(3):
        block = f"blocks.{layer}"
        mid = acts[f"{block}.hook_resid_pre"] + acts[f"{block}.hook_attn_out"]
        torch.testing.assert_close(acts[f"{block}.hook_resid_mid"], mid)
        norm = model.hf.get_submodule(model.hook(f"{block}.ln2.hook_out").module_path)
        out = norm(acts[f"{block}.ln1.hook_out"] + acts[f"{block}.hook_mlp_out"])
        torch.testing.assert_close(acts[f"{block}.hook_resid_post"], out)


def test_every_edit_is_seen_and_leaves_no_trace(model):
    last = "blocks.2.hook_resid_post"
    before = capture(model, tiny_tokens(), [last])[last]
    for name in model.hooks:
        new = torch.randn(model.hook(name).width)
        with edit(model, {name: lambda x, new=new: new.expand_as(x).clone()}):
            assert torch.equal(capture(model, tiny_tokens(), [name])[name], new.expand(3, 11, -1)), name
            assert not torch.equal(capture(model, tiny_tokens(), [last])[last], before), name
    assert torch.equal(capture(model, tiny_tokens(), [last])[last], before)


@pytest.mark.parametrize("architecture", ["topk", "matryoshka"])
def test_evaluation_leaves_out_the_losses_and_nothing_else(architecture, tmp_path):
    model = tiny_model("bert")
    result = evaluate(model, random_sae(architecture), tiny_stream(tmp_path, model), n_tokens=400)
    assert result.ce is None
    assert result.as_arm().ce_delta is None
    assert [prefix.ce_delta for prefix in result.prefixes] == [None] * len(result.prefixes)
    assert result.explained_variance_interval is not None
    assert Evaluation.from_json(result.to_json()) == result


def test_an_sae_that_reconstructs_everything_explains_everything(tmp_path):
    model = tiny_model("bert")
    result = evaluate(model, perfect_sae(), tiny_stream(tmp_path, model), n_tokens=400)
    assert result.explained_variance == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("hook", [HOOK, "blocks.1.mlp.hook_post"])
def test_there_is_no_path_to_logits(hook):
    model = tiny_model("bert")
    effects = logit_effects(model, hook, torch.randn(5, model.hook(hook).width), k=3)
    assert effects.raised_tokens.eq(-1).all()
    assert not effects.raised_logits.any()


def test_a_tokenizer_without_marks_frames_nothing(tmp_path):
    model = wrap_model(tiny_model("bert").hf, tiny_tokenizer({"unk_token": "<unk>"}), name="bare")
    stream = open_stream(
        str(write_jsonl(tmp_path / "t.jsonl", ["w4 w5"])), model, DataConfig(context_size=8), split="all"
    )
    assert next(stream.iter_pass()).token_ids.shape == (1, 2)

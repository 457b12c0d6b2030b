import pytest
import torch

from interp.datasets import DataConfig, MaskPolicy, open_stream
from interp.errors import ConfigError, DataError
from interp.hooks import capture
from saes.facts import data_difference
from tests.families import CONTEXT, KINDS, tiny_model
from tests.texts import tiny_texts, write_jsonl
from tests.unchecked import unchecked

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def texts(tmp_path):
    return str(write_jsonl(tmp_path / "texts.jsonl", tiny_texts(60, longest=50)))


def _config(**more):
    return DataConfig(context_size=16, batch_tokens=64, **more)


def _tokens_of(batches):
    """Kept tokens of a pass by document and place, whatever rows they stood in."""
    found = {}
    for batch in batches:
        kept = batch.document[batch.keep].tolist(), batch.token_ids[batch.keep].tolist()
        for document, token in zip(*kept, strict=True):
            found.setdefault(document, []).append(token)
    return {document: sorted(tokens) for document, tokens in found.items()}


@pytest.mark.parametrize("rows", ["padded", "packed", "joined"])
def test_every_word_comes_once(texts, rows):
    model = tiny_model("llama")
    stream = open_stream(texts, model, _config(rows=rows), split="all")
    expected = {
        number: sorted(model.tokenizer(text)["input_ids"]) for number, text in enumerate(tiny_texts(60, longest=50))
    }
    assert _tokens_of(stream.iter_pass()) == expected


@pytest.mark.parametrize("rows", ["padded", "packed", "joined"])
def test_a_cursor_gives_the_rest_again(texts, rows):
    stream = open_stream(texts, tiny_model("llama"), _config(rows=rows))
    every = [pair for pair, _ in zip(stream.iter_from({}), range(40), strict=False)]
    for cut in (0, 3, 17, 39):
        again, batch = next(iter(stream.iter_from(every[cut][0])))
        assert again == every[cut][0]
        assert torch.equal(batch.token_ids, every[cut][1].token_ids)
        assert torch.equal(batch.document, every[cut][1].document)


def test_splits_are_disjoint_and_cover(texts):
    model = tiny_model("gpt2")
    config = _config(heldout_share=0.3)
    train, heldout, every = (
        _tokens_of(open_stream(texts, model, config, split=s).iter_pass()) for s in ("train", "heldout", "all")
    )
    assert train.keys() & heldout.keys() == set()
    assert train | heldout == every
    assert 0.1 < len(heldout) / len(every) < 0.5


def test_masks_leave_out_padding_bos_and_special_tokens(tmp_path):
    path = write_jsonl(tmp_path / "t.jsonl", ["w4 w5 <unk> w6", "w7"])
    model = tiny_model("llama")
    batch = next(open_stream(str(path), model, _config(), split="all").iter_pass())
    kept = batch.token_ids[batch.keep].tolist()
    assert sorted(kept) == sorted(model.tokenizer.convert_tokens_to_ids(["w4", "w5", "w6", "w7"]))
    assert batch.token_ids[:, 0].tolist() == [model.bos_token_id] * 2
    assert batch.attention_mask.sum(1).tolist() == [2, 5]
    loose = _config(mask=MaskPolicy(mask_bos=False, mask_special=False))
    batch = next(open_stream(str(path), model, loose, split="all").iter_pass())
    assert batch.n_kept == 7


def test_rows_fit_the_context_and_batches_the_budget(texts):
    for batch in open_stream(texts, tiny_model("gpt2"), _config(), split="all").iter_pass():
        assert batch.token_ids.shape[1] <= 16
        assert batch.token_ids.numel() <= 64


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_do_not_see_each_other(tmp_path, kind):
    """Activations of a packed row are those of each document alone."""
    model = tiny_model(kind)
    texts = ["w4 w5 w6 w7", "w8 w9 w10", "w11 w12 w13 w14 w15"]
    path = str(write_jsonl(tmp_path / "t.jsonl", texts))
    packed = next(open_stream(path, model, DataConfig(context_size=20, rows="packed"), split="all").iter_pass())
    assert packed.token_ids.shape[0] == 1
    x = capture(model, packed.token_ids, [HOOK], position_ids=packed.position_ids)[HOOK]
    alone = next(open_stream(path, model, DataConfig(context_size=20), split="all").iter_pass())
    y = capture(model, alone.token_ids, [HOOK], attention_mask=alone.attention_mask)[HOOK]
    for document in range(3):
        ours, theirs = x[packed.document == document], y[alone.document == document]
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_joined_documents_see_those_before_them(tmp_path, kind):
    """Activations of a joined row are those of one text with the same tokens; a packed row has the first document's."""
    model = tiny_model(kind)
    path = str(write_jsonl(tmp_path / "t.jsonl", ["w4 w5 w6 w7", "w8 w9 w10", "w11 w12 w13 w14 w15"]))
    joined, packed = (
        next(open_stream(path, model, DataConfig(context_size=20, rows=rows), split="all").iter_pass())
        for rows in ("joined", "packed")
    )
    assert torch.equal(joined.token_ids, packed.token_ids)
    whole = capture(model, joined.token_ids, [HOOK])[HOOK]
    x, y = (capture(model, b.token_ids, [HOOK], position_ids=b.position_ids)[HOOK] for b in (joined, packed))
    limit = 1e-5 * whole.abs().max()
    assert (x - whole).abs().max() <= limit
    first = joined.document == 0
    assert (x - y)[first].abs().max() <= limit
    # Far enough from the first document that a window of five tokens reaches no further than the second.
    assert (x - y)[joined.document == 1].abs().max() > 100 * limit


def test_positions_of_joined_rows_run_from_edge_to_edge(tmp_path):
    path = str(write_jsonl(tmp_path / "t.jsonl", ["w4 w5 w6", "w7 w8 w9 w10 w11 w12"]))
    config = DataConfig(context_size=6, rows="joined", prepend_bos=False)
    batch = next(open_stream(path, tiny_model("llama"), config, split="all").iter_pass())
    rows = zip(batch.document.tolist(), batch.position_ids.tolist(), strict=True)
    real = sorted([p for d, p in zip(*row, strict=True) if d >= 0] for row in rows)
    assert real == [[0, 1, 2], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("rows", "recorded"), [("padded", None), ("packed", False), ("joined", True)])
def test_attention_across_documents_is_recorded(texts, rows, recorded):
    facts = open_stream(texts, tiny_model("llama"), _config(rows=rows)).facts
    assert facts["rows"] == rows
    assert facts.get("attention_across_documents") is recorded


def test_an_sae_of_joined_rows_is_not_measured_on_packed_ones(texts):
    joined, packed = (open_stream(texts, tiny_model("llama"), _config(rows=r)).facts for r in ("joined", "packed"))
    assert data_difference(joined, packed) == ("rows", "joined", "packed")


def test_a_document_cut_by_a_row_edge_starts_again_at_zero(tmp_path):
    path = str(write_jsonl(tmp_path / "t.jsonl", ["w4 w5 w6", "w7 w8 w9 w10 w11 w12"]))
    config = DataConfig(context_size=6, rows="packed", prepend_bos=False)
    batch = next(open_stream(path, tiny_model("llama"), config, split="all").iter_pass())
    rows = {tuple(row) for row in batch.position_ids.tolist()}
    assert rows == {(0, 1, 2, 0, 1, 2), (0, 1, 2, 0, 0, 0)} or rows == {(0, 1, 2, 0, 1, 2), (0, 1, 2)}


@pytest.mark.parametrize("texts", [[], [""], ["   \n"], ["<s> </s>"]])
def test_text_without_usable_tokens_is_told(tmp_path, texts):
    path = write_jsonl(tmp_path / "t.jsonl", texts)
    stream = open_stream(str(path), tiny_model("llama"), _config(), split="all")
    with pytest.raises(DataError, match="no usable token"):
        for _ in stream.iter_from({}):
            pass


def test_a_context_longer_than_the_models_is_told(texts):
    with pytest.raises(ConfigError, match=f"at most {CONTEXT} tokens"):
        open_stream(texts, tiny_model("llama"), DataConfig(context_size=CONTEXT + 1))


@pytest.mark.parametrize("split", ["test", "Heldout", "valid", ""])
def test_a_split_that_does_not_exist_is_no_training_text(texts, split):
    stream = open_stream(texts, tiny_model("llama"), _config())
    for make in (
        lambda: open_stream(texts, tiny_model("llama"), _config(), split=split),
        lambda: stream.with_split(split),
    ):
        with (
            unchecked(),
            pytest.raises(ConfigError, match=f"^split: got '{split}'; expected one of train, heldout, all$"),
        ):
            make()

"""Every token of a conversation is known to be somebody's words or the template's, and BOS stands there once."""

import json
from fnmatch import fnmatch

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from interp.chat import Conversation, Message, encode_chat, parse_conversation, render, template_facts
from interp.datasets import DataConfig, MaskPolicy, open_stream
from interp.errors import ArtifactError, ConfigError, DataError
from interp.model_files import WANTED_FROM_HUB
from interp.models import wrap_model
from interp.runs import RunFolder, RunManifest
from saes.facts import data_difference
from tests.families import D_VOCAB, SPECIAL, tiny_model, tiny_tokenizer
from tests.texts import tiny_texts, write_jsonl

# As published models write them: ChatML (Qwen), Llama 2's, which trims, Gemma's, which renames and refuses system.
TEMPLATES = {
    "chatml": "{% for m in messages %}<im> {{ m['role'] }} {{ m['content'] }} <end> {% endfor %}",
    "llama": "{{ bos_token }} {% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'].strip() }} "
    "[/INST] {% else %}{{ m['content'] | trim }} {{ eos_token }} {% endif %}{% endfor %}",
    "gemma": "{{ bos_token }} {% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{% for m in messages %}<im> {{ 'model' if m['role'] == 'assistant' else m['role'] }} "
    "{{ m['content'] }} <end> {% endfor %}",
}
WORDS = ("<im>", "<end>", "[INST]", "[/INST]", "user", "assistant", "model", "system")
TALK = [
    {"role": "user", "content": "w4 w5 user"},
    {"role": "assistant", "content": "w6 w7 w8"},
    {"role": "user", "content": "w9"},
    {"role": "assistant", "content": "w6 w10"},
]


def chat_tokenizer(template):
    vocab = {word: index for index, word in enumerate((*SPECIAL.values(), *WORDS))}
    vocab |= {f"w{i}": len(vocab) + i - 4 for i in range(4, 4 + D_VOCAB - len(vocab))}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), Split("\n", "isolated")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="right", **SPECIAL)
    fast.chat_template = TEMPLATES.get(template)
    return fast


def said_by(tokenizer, talk):
    ids, roles = encode_chat(tokenizer, parse_conversation(talk, "here"), "here")
    return [(token, role) for token, role in zip(tokenizer.convert_ids_to_tokens(ids), roles, strict=True)]


@pytest.mark.parametrize("template", TEMPLATES)
def test_words_are_their_speaker_s_and_the_rest_is_the_template_s(template):
    found = said_by(chat_tokenizer(template), TALK)
    for role in ("user", "assistant"):
        words = [word for m in TALK if m["role"] == role for word in m["content"].split()]
        assert [token for token, speaker in found if speaker == role] == words
    template_s = [token for token, speaker in found if speaker is None]
    assert not {token for token in template_s if token.startswith("w")}


def test_a_word_that_the_template_writes_too_is_told_apart():
    found = said_by(chat_tokenizer("chatml"), TALK[:1])
    assert found == [("<im>", None), ("user", None), ("w4", "user"), ("w5", "user"), ("user", "user"), ("<end>", None)]


@pytest.mark.parametrize("template", ["llama", "chatml"])
def test_what_the_template_trims_is_not_looked_for(template):
    talk = [{"role": "user", "content": "  w4 w5\n"}, {"role": "assistant", "content": "\n w6 "}]
    found = [(token, role) for token, role in said_by(chat_tokenizer(template), talk) if role]
    assert found == [("w4", "user"), ("w5", "user"), ("w6", "assistant")]


# Llama 2 puts the system's words into the first user message before it trims that; Gemma 3 trims users alone.
MIXED = {
    "llama 2": "{{ bos_token }} [INST] {{ ('<im>' + messages[0]['content'] + '<end> ' + messages[1]['content']) "
    "| trim }} [/INST] {{ messages[2]['content'] | trim }} {{ eos_token }}",
    "gemma 3": "{{ messages[0]['content'] }}\n\n<im> user {{ messages[1]['content'] | trim }} <end>"
    " <im> model {{ messages[2]['content'] | trim }} <end>",
}


@pytest.mark.parametrize("template", MIXED)
def test_some_messages_are_trimmed_and_others_not(template):
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = MIXED[template]
    talk = [
        {"role": "system", "content": " w4\n"},
        {"role": "user", "content": " w5 w6\n"},
        {"role": "assistant", "content": "\n w7 "},
    ]
    chat = render(tokenizer, parse_conversation(talk, "here"), "here")
    said = [chat.text[start:end] for start, end in chat.spans]
    assert said == [" w4\n", " w5 w6" if template == "llama 2" else "w5 w6", "w7"]


def test_a_template_that_prints_the_date_writes_the_same_on_every_day():
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"
    chat = render(tokenizer, parse_conversation(TALK[:1], "here"), "here")
    assert chat.text == "26 Jul 2024 w4 w5 user"
    assert template_facts(tokenizer)["date"] == "2024-07-26"
    tokenizer.chat_template = "{{ strftime_now('%d' ~ '%Y') }}"
    with pytest.raises(DataError, match="a date format that is not written out"):
        render(tokenizer, parse_conversation(TALK[:1], "here"), "here")


def test_the_template_is_recorded_where_conversations_are_read(tmp_path):
    records = [stream_of(tmp_path, template).facts["chat_template"] for template in ("chatml", "llama", "chatml")]
    assert records[0] == records[2] != records[1]
    model = wrap_model(tiny_model("llama").hf, chat_tokenizer("chatml"), name="chat")
    plain = open_stream(str(write_jsonl(tmp_path / "t.jsonl", ["w4"])), model, DataConfig(context_size=8))
    assert "chat_template" not in plain.facts
    assert any(fnmatch("chat_template.jinja", pattern) for pattern in WANTED_FROM_HUB)


def test_a_run_does_not_go_on_with_another_template(tmp_path):
    one, other = (stream_of(tmp_path, template).facts for template in ("chatml", "llama"))
    run = RunFolder.begin(tmp_path / "run", DataConfig(), RunManifest.begin("sae", seed=0, data=one))
    run.check_same_inputs(model={}, data=one)
    with pytest.raises(ArtifactError, match="the chat template's content has changed"):
        run.check_same_inputs(model={}, data=other)
    assert data_difference(one, other)[0] == "chat_template"


def test_a_tokenizer_that_does_not_tell_characters_is_told(monkeypatch):
    tokenizer = chat_tokenizer("chatml")
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        said_by(tokenizer, TALK)


def test_spans_are_the_messages_characters():
    tokenizer = chat_tokenizer("llama")
    conversation = parse_conversation(TALK, "here")
    chat = render(tokenizer, conversation, "here")
    assert [chat.text[start:end] for start, end in chat.spans] == [m["content"] for m in TALK]
    assert chat.text == tokenizer.apply_chat_template(TALK, tokenize=False)


def test_a_conversation_is_text_that_a_split_can_go_by():
    conversation = Conversation([Message("user", "hello"), Message("assistant", "hi")])
    assert conversation == "user: hello\nassistant: hi"
    assert conversation.messages[1].content == "hi"


def stream_of(tmp_path, template, **config):
    model = wrap_model(tiny_model("llama").hf, chat_tokenizer(template), name="chat")
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in (TALK, TALK[:2])))
    return open_stream(str(path), model, DataConfig(text_field="messages", context_size=24, **config), split="all")


def kept(stream):
    tokens = []
    for batch in stream.iter_pass():
        for document in (0, 1):
            chosen = batch.keep & (batch.document == document)
            tokens.append((document, stream._model.tokenizer.convert_ids_to_tokens(batch.token_ids[chosen])))
    return [words for _, words in sorted(tokens, key=lambda pair: pair[0])]


@pytest.mark.parametrize("rows", ["padded", "packed", "joined"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_only_the_chosen_speakers_tokens_are_kept(tmp_path, template, rows):
    stream = stream_of(tmp_path, template, rows=rows, mask=MaskPolicy(roles=("assistant",)))
    words = [word for document in kept(stream) for word in document]
    # Rows of like length come together, so that pieces of documents change places.
    assert sorted(words) == sorted(["w6", "w7", "w8", "w6", "w10", "w6", "w7", "w8"])
    assert stream.facts["mask_policy"] == {"mask_bos": True, "mask_special": True, "roles": ["assistant"]}


def test_without_a_choice_all_words_are_kept_and_the_template_if_asked_for(tmp_path):
    everyone = kept(stream_of(tmp_path, "chatml"))
    assert everyone[1] == ["w4", "w5", "user", "w6", "w7", "w8"]
    whole = kept(stream_of(tmp_path, "chatml", mask=MaskPolicy(mask_template=False)))
    assert whole[1] == ["<im>", "user", "w4", "w5", "user", "<end>", "<im>", "assistant", "w6", "w7", "w8", "<end>"]


@pytest.mark.parametrize(("template", "begins"), [("llama", 1), ("gemma", 1), ("chatml", 1)])
@pytest.mark.parametrize("prepend", [None, False])
def test_bos_stands_once_whoever_writes_it(tmp_path, template, begins, prepend):
    stream = stream_of(tmp_path, template, prepend_bos=prepend)
    for batch in stream.iter_pass():
        counts = batch.token_ids.eq(stream._model.bos_token_id).sum(1).tolist()
        expected = begins if prepend is None or template != "chatml" else 0
        assert counts == [expected] * len(counts)


def test_errors_are_told_in_one_line(tmp_path):
    system = [{"role": "system", "content": "w4"}, *TALK]
    with pytest.raises(DataError, match=r"here: the chat template refuses this conversation \(no system"):
        said_by(chat_tokenizer("gemma"), system)
    with pytest.raises(ConfigError, match="has no chat template"):
        said_by(tiny_tokenizer(), TALK)
    rewriting = chat_tokenizer("chatml")
    rewriting.chat_template = "{% for m in messages %}{{ m['content'].replace('w4', 'w5') }} {% endfor %}"
    with pytest.raises(DataError, match="rewrites these messages"):
        said_by(rewriting, TALK)
    for bad in ([{"role": "user"}], ["hello"], [{"role": "user", "content": 3}]):
        with pytest.raises(DataError, match="place: got a message"):
            parse_conversation(bad, "place")
    with pytest.raises(DataError, match="without messages"):
        parse_conversation([], "place")
    path = write_jsonl(tmp_path / "plain.jsonl", tiny_texts(3))
    config = DataConfig(context_size=16, mask=MaskPolicy(roles=("user",)))
    with pytest.raises(DataError, match="document 0 is plain text"):
        next(open_stream(str(path), tiny_model("llama"), config, split="all").iter_pass())

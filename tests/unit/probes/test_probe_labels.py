"""Labels from files, rules and models: what is labelled, with which word, in which document; and what is refused."""

import json

import pytest
import torch

from interp.errors import ConfigError, DataError
from probes.label_files import labels_from_conllu, labels_from_records
from probes.label_rules import by_first_letter, by_next_token, by_other_model, by_pattern, readable_texts
from probes.probe_labels import LabelledText, Place, attributes_of, most_common_classes, sampled
from tests.families import tiny_model
from tests.texts import write_jsonl

TREEBANK = """\
# newdoc id = one
# text = Old dogs barked.
1\tOld\told\tADJ\tJJ\tDegree=Pos\t2\tamod\t_\t_
2\tdogs\tdog\tNOUN\tNNS\tNumber=Plur\t3\tnsubj:outer\t_\t_
3\tbarked\tbark\tVERB\tVBD\tTense=Past|VerbForm=Fin\t0\troot\t_\tSpaceAfter=No
4\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# newdoc id = two
# text = She goes
1\tShe\tshe\tPRON\tPRP\tNumber=Sing\t2\tnsubj\t_\t_
2\tgoes\tgo\tVERB\tVBZ\tTense=Pres|VerbForm=Fin\t0\troot\t_\t_

"""


def _texts(*texts):
    return [LabelledText(text, text, (Place(0, len(text), "", {}),)) for text in texts]


def _said(text):
    return [(text.text[p.start : p.end], *p.labels.values()) for p in text.places]


def test_a_treebank_gives_part_number_tense_and_relation(tmp_path):
    (tmp_path / "x-train.conllu").write_text(TREEBANK)
    (tmp_path / "x-dev.conllu").write_text("")
    dogs, she = labels_from_conllu(tmp_path)
    assert [(place.word, dict(place.labels)) for place in dogs.places] == [
        ("old", {"pos": "ADJ", "relation": "amod"}),
        ("dog", {"pos": "NOUN", "number": "plural", "relation": "nsubj"}),
        ("bark", {"pos": "VERB", "tense": "past", "relation": "root"}),
    ]
    assert (dogs.document, she.document) == ("one", "two")
    assert _said(labels_from_conllu(tmp_path / "x-train.conllu", ("tense",))[1]) == [("goes", "present")]
    with pytest.raises(DataError, match="got 'mood'"):
        labels_from_conllu(tmp_path, ("mood",))
    with pytest.raises(DataError, match="no such file"):
        labels_from_conllu(tmp_path / "absent.conllu")


def test_records_of_both_kinds_say_the_same(tmp_path):
    rows = [
        {"text": "a red ball", "start": 2, "end": 5, "colour": "warm", "document": "d"},
        {"text": "a red ball", "start": 6, "end": 10, "colour": "", "document": "d"},
        {"text": "so blue ", "start": "", "end": "", "colour": "cold", "document": "e"},
    ]
    lines = tmp_path / "labels.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = tmp_path / "labels.csv"
    table.write_text("text,start,end,colour,document\na red ball,2,5,warm,d\na red ball,6,10,,d\nso blue ,,,cold,e\n")
    found = labels_from_records(lines, label_fields=("colour",))
    assert labels_from_records(table, label_fields=("colour",)) == found
    assert [_said(text) for text in found] == [[("red", "warm"), ("ball",)], [("blue", "cold")]]
    assert [text.document for text in found] == ["d", "e"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "text\n", "expected .csv or .jsonl"),
        ("a.csv", "text,label\n", "holds no record"),
        ("a.csv", "texts,label\na,b\n", "no field 'text'"),
        ("a.jsonl", "{\n", "not valid JSON"),
        ("a.jsonl", '{"text": "ab", "label": "x", "start": 1, "end": 9}\n', "characters 1 to 9"),
        ("a.jsonl", '{"text": " ", "label": "x"}\n', "has no text"),
        ("a.jsonl", '{"text": null, "label": "x"}\n', "has no text"),
        ("a.jsonl", '{"text": "ab", "label": "x", "start": [1], "end": 2}\n', r"got start \[1\]"),
        ("a.csv", f"text,label\n{'x' * 200_000},a\n", "is no table in CSV"),
    ],
)
def test_what_is_wrong_with_records_is_told_in_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says) as error:
        labels_from_records(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_word_of_records_is_the_same_whatever_its_case(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nold Dog,x\nold dog,y\n")
    assert [place.word for text in labels_from_records(tmp_path / "a.csv") for place in text.places] == ["dog", "dog"]


def test_a_document_without_a_name_ends_where_the_next_begins(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_text(TREEBANK.replace("# newdoc id = two", "# newdoc"))
    dogs, she = labels_from_conllu(path)
    assert dogs.document == "one"
    assert she.document not in ("one", she.text)


def test_a_treebank_that_cannot_be_read_is_told_in_one_line(tmp_path):
    (tmp_path / "a.conllu").write_bytes(b"# text = a\n\xff\n")
    with pytest.raises(DataError, match="not UTF-8 text") as error:
        labels_from_conllu(tmp_path / "a.conllu")
    assert "\n" not in str(error.value)


def test_a_pattern_says_yes_inside_its_matches_or_names_them():
    (text,) = by_pattern(_texts("call 555 now"), r"\d+")
    assert _said(text) == [("call", "no"), ("555", "yes"), ("now", "no")]
    (named,) = by_pattern(_texts("Mr Fox met Mrs Owl"), r"(?P<label>Mrs?) \w+")
    assert _said(named) == [("Mr", "Mr"), ("Fox", "Mr"), ("Mrs", "Mrs"), ("Owl", "Mrs")]
    with pytest.raises(ConfigError, match="no regular expression"):
        by_pattern(_texts("x"), "(")


def test_first_letters_go_by_word_whatever_their_case():
    (text,) = by_first_letter(_texts("Ann 7 and bob"))
    assert _said(text) == [("Ann", "a"), ("and", "a"), ("bob", "b")]
    assert [place.word for place in text.places] == ["ann", "and", "bob"]


def test_the_next_token_labels_the_one_before_it():
    model = tiny_model("gpt2")
    (text,) = by_next_token(model, _texts("w4 w5 w6"))
    assert _said(text) == [("w4", "w5"), ("w5", "w6")]


def test_another_models_answer_is_its_likeliest_next_token():
    model, other = tiny_model("gpt2"), tiny_model("llama", seed=3)
    (text,) = by_other_model(other, _texts("w4 w5 w6"))
    ids = torch.tensor([[other.frame.begin, 4, 5, 6]])
    with torch.no_grad():
        answers = other.hf(ids).logits[0, 1:].argmax(-1).tolist()
    assert _said(text) == [(f"w{n}", other.tokenizer.decode([a])) for n, a in zip((4, 5, 6), answers, strict=True)]
    with pytest.raises(ConfigError, match="an encoder"):
        by_other_model(tiny_model("bert"), _texts("w4"))
    assert model.name != other.name


def test_documents_are_cut_at_the_context_and_speakers_need_a_conversation(tmp_path):
    model = tiny_model("gpt2")
    path = write_jsonl(tmp_path / "texts.jsonl", [" ".join(f"w{4 + n % 30}" for n in range(60)), "w5 w6", " "])
    long, short = readable_texts(model, str(path), n=5)
    assert len(long.text.split()) == model.context_size - 1
    assert short.text == "w5 w6"
    assert long.document.startswith(long.text)
    with pytest.raises(ConfigError, match="plain text"):
        readable_texts(model, str(path), n=5, roles=("assistant",))


def test_only_the_chosen_speakers_words_are_labelled(tmp_path):
    model = tiny_model("gpt2")
    model.tokenizer.chat_template = "{% for m in messages %}w30 {{ m['content'] }} {% endfor %}"
    path = tmp_path / "chat.jsonl"
    messages = [{"role": "user", "content": "w4 w5"}, {"role": "assistant", "content": "w6 w7"}]
    path.write_text(json.dumps({"text": messages}) + "\n")
    (everyone,) = by_first_letter(readable_texts(model, str(path), n=1))
    (assistant,) = by_first_letter(readable_texts(model, str(path), n=1, roles=("assistant",)))
    assert [word for word, _ in _said(everyone)] == ["w4", "w5", "w6", "w7"]
    assert [word for word, _ in _said(assistant)] == ["w6", "w7"]


def test_a_sample_takes_so_many_of_each_attribute_and_leaves_the_rest_unlabelled():
    texts = [
        LabelledText(
            f"w{n} x", f"w{n} x", (Place(0, 2, "w", {"a": "yes", "b": str(n % 7)}), Place(3, 4, "x", {"b": "9"}))
        )
        for n in range(10, 40)
    ]
    found = sampled(texts, examples=12, seed=1)
    for name in ("a", "b"):
        assert sum(name in place.labels for text in found for place in text.places) == 12
    assert sampled(texts, examples=12, seed=1) == found != sampled(texts, examples=12, seed=2)
    assert attributes_of(found) == ("a", "b")


def test_the_commonest_classes_alone_are_kept_ties_by_name():
    texts = [LabelledText("x", "x", (Place(0, 1, "x", {"a": name}),)) for name in "zzzccbba"]
    kept = most_common_classes(texts, 2)
    assert [place.labels["a"] for text in kept for place in text.places] == ["z", "z", "z", "b", "b"]
    assert len(kept) == len(texts)


def test_texts_without_a_label_are_refused():
    with pytest.raises(DataError, match="without any label"):
        sampled([LabelledText("x", "x", ())], examples=3)

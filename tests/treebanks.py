"""An invented treebank in the words of tests.families, whose lemmas are many."""

import random
from pathlib import Path

PARTS = ("NOUN", "VERB", "ADJ", "ADV", "PROPN", "DET")


def write_treebank(folder: Path, *, n_sentences: int = 120, seed: int = 0) -> Path:
    """invented-train.conllu and invented-dev.conllu; a word's part of speech follows its number."""
    folder.mkdir()
    for part in ("train", "dev"):
        draw = random.Random(f"{seed}:{part}")
        text = "".join(_sentence(draw) for _ in range(n_sentences))
        (folder / f"invented-{part}.conllu").write_text(text, encoding="utf-8")
    return folder


def _sentence(draw: random.Random) -> str:
    numbers = [draw.randrange(4, 40) for _ in range(8)]
    lines = [f"# text = {' '.join(f'w{number}' for number in numbers)}"]
    for index, number in enumerate(numbers, 1):
        upos = PARTS[number % len(PARTS)]
        lines.append(
            f"{index}\tw{number}\tw{number}-{draw.randrange(20)}\t{upos}\t_\t{_features(upos, number)}\t0\tdep\t_\t_"
        )
    return "\n".join(lines) + "\n\n"


def _features(upos: str, number: int) -> str:
    half = number % 12 < 6
    if upos == "NOUN":
        return f"Number={'Sing' if half else 'Plur'}"
    return f"Tense={'Past' if half else 'Pres'}|VerbForm=Fin" if upos == "VERB" else "_"

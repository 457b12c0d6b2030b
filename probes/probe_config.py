"""What `interp probe` is told."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from interp.config import Config, Seed
from probes.label_files import CONLLU_ATTRIBUTES
from probes.probe_tasks import Split

Source = Literal["conllu", "records", "pattern", "first_letter", "next_token", "other_model"]


_OF_TEXT = ("pattern", "first_letter", "next_token", "other_model")
_READ_BY = {
    "path": ("conllu", "records"),
    "pattern": ("pattern",),
    "other_model": ("other_model",),
    "roles": _OF_TEXT,
}
"""Which sources use a key that has no default."""


class LabelConfig(Config):
    """Where labels come from."""

    source: Source = "first_letter"
    """conllu: a treebank. records: a .csv or .jsonl file. Of plain text: pattern, a regular expression; first_letter,
    of each word; next_token; other_model, the token that another model thinks likeliest to follow."""
    path: Path | None = None
    """conllu: the .conllu file, or the folder of a treebank. records: the .csv or .jsonl file."""
    attributes: tuple[str, ...] = tuple(CONLLU_ATTRIBUTES)
    """conllu: some of pos, number, tense, relation. records: the fields that hold labels."""
    pattern: str | None = None
    """pattern: words within a match are "yes", others "no"; with a group named `label` its text is the class."""
    other_model: str | None = None
    """other_model: "embedded", a Hugging Face folder or a hub name."""
    dataset: str = "embedded"
    """Text for the last four sources: "embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    text_field: str = "text"
    """Field of the data set that holds the text, or a conversation."""
    roles: tuple[str, ...] = ()
    """Of conversations label only what these speakers say; empty: everyone."""
    texts: int = Field(2000, ge=4)
    """Most texts to read: documents, or sentences of a treebank (drawn by seed)."""
    examples: int = Field(6000, ge=16)
    """Most labelled places for each attribute, drawn by seed."""
    classes: int = Field(30, ge=2)
    """Most classes for each attribute, the commonest."""

    @model_validator(mode="after")
    def _says_from_where(self) -> "LabelConfig":
        needed = {"conllu": "path", "records": "path", "pattern": "pattern", "other_model": "other_model"}
        if (name := needed.get(self.source)) is not None and getattr(self, name) is None:
            raise ValueError(f"labels.{name}: is missing; labels from {self.source} need it")
        for key, sources in _READ_BY.items():
            if getattr(self, key) and self.source not in sources:
                raise ValueError(
                    f"labels.{key}: labels from {self.source} do not use it; leave it out or change source"
                )
        if self.source == "conllu" and (unknown := [a for a in self.attributes if a not in CONLLU_ATTRIBUTES]):
            raise ValueError(f"labels.attributes: got {unknown[0]!r}; expected some of {', '.join(CONLLU_ATTRIBUTES)}")
        return self


class ProbeConfig(Config):
    """A sweep of probes over hooks, and over the features of SAEs."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name."""
    hooks: tuple[str, ...] = ("blocks.0.hook_resid_pre", "hook_resid_post")
    """Where to look: whole names such as blocks.2.hook_resid_post, or what follows the layer, for every layer."""
    saes: tuple[Path, ...] = ()
    """Run folders or SAE folders of the same model, whose features are probed beside the hooks."""
    labels: LabelConfig = LabelConfig()
    heldout_share: float = Field(0.3, gt=0.0, lt=1.0)
    """Share of the documents, chosen by hash, that is held out."""
    splits: tuple[Split, ...] = ("document", "word")
    """document: new documents. word: new words in new documents, which tells what is known of words from what is read
    of them."""
    cs: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """Regularisation path, strong to weak; the strength is chosen on training documents left out for it."""
    ks: tuple[int, ...] = (1, 2, 5, 10)
    """Numbers of features of k-sparse probes on SAEs."""
    nonlinear: bool = True
    """Fit a small network as reference."""
    description_length: bool = True
    """Measure the online code of the labels and of their control at every site."""
    erasure: bool = True
    """Take each attribute out at its best hook, by mean projection, INLP and LEACE."""
    group_sparse: bool = True
    """Fit group-lasso probes of all attributes at the best hook and on every SAE."""
    shown_texts: int = Field(3, ge=0)
    """Held-out texts, drawn by seed, whose every token is scored."""
    seed: Seed = 0
    """Seed of draws."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU): where the model runs; probes are fitted on the CPU."""
    out: Path = Path("runs/probe")
    """Folder to write: probe.json, report.html, config.yaml."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ProbeConfig":
        if not self.hooks:
            raise ValueError("hooks: got none; name at least one")
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"splits: got {list(self.splits)}; name document, word or both, each once")
        if not self.cs or any(c <= 0 for c in self.cs) or list(self.cs) != sorted(set(self.cs)):
            raise ValueError(f"cs: got {list(self.cs)}; expected positive numbers that grow")
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"ks: got {list(self.ks)}; expected numbers from 1")
        return self

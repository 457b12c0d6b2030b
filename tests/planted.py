"""Concept sets and dictionaries whose every score is known: an attribute has a direction, a direction a feature."""

from dataclasses import dataclass

import numpy as np
import torch

from interp.code import Code
from probes.concept_activations import ConceptActivations

HOOK = "blocks.0.hook_resid_post"
WIDTH = 8


@dataclass(frozen=True)
class PlantedDictionary:
    """Feature i is relu(x · reads_i - bias_i) and writes writes_i."""

    reads: torch.Tensor
    writes: torch.Tensor
    bias: torch.Tensor
    hooks_in: tuple[str, ...] = (HOOK,)
    hooks_out: tuple[str, ...] = (HOOK,)

    @property
    def d_sae(self):
        return self.reads.shape[0]

    def encode(self, x):
        return Code.from_dense((x @ self.reads.T - self.bias).clamp(min=0))

    def decode(self, code, *, prefix=None):
        held = code if prefix is None else code.keep(code.features < prefix)
        return held.dense() @ self.writes

    def directions(self, features):
        return self.writes[features]


def coordinates(*axes, bias=0.0):
    """One feature for each axis given."""
    rows = torch.eye(WIDTH)[list(axes)]
    return PlantedDictionary(rows, rows, torch.full((len(axes),), bias))


def planted(n_words=40, per_word=8, *, noise=0.0, seed=0, name="planted"):
    """Two attributes, independent: `one` is coordinate 0, 1 where yes, and `two` coordinate 1, 1 or -1; else noise.

    Attribute `one` follows the word, as `two` follows the sentence; half of the words are held out.
    """
    generator = torch.Generator().manual_seed(seed)
    word = np.repeat(np.arange(n_words), per_word)
    one, two = word % 2 == 0, np.arange(word.size) % 2 == 0
    acts = noise * torch.randn(word.size, WIDTH, generator=generator)
    acts[:, 0] += torch.as_tensor(one).float()
    acts[:, 1] += 2 * torch.as_tensor(two).float() - 1
    labels = {"one": np.where(one, 0, 1), "two": np.where(two, 0, 1)}
    prefixes = [[7, int(w)] for w in word]
    attributes = {"one": ("yes", "no"), "two": ("yes", "no")}
    return ConceptActivations(name, attributes, acts, labels, word, (word // 2) % 2 == 1, prefixes)


def several_classes(n_classes=3, n_words=48, per_word=4, *, noise=0.0, seed=0):
    """One attribute of several classes: class i adds 1 to coordinate i."""
    generator = torch.Generator().manual_seed(seed)
    word = np.repeat(np.arange(n_words), per_word)
    label = word % n_classes
    acts = noise * torch.randn(word.size, WIDTH, generator=generator)
    acts[torch.arange(word.size), torch.as_tensor(label)] += 1.0
    classes = tuple("abcdefgh"[:n_classes])
    prefixes = [[int(w)] for w in word]
    heldout = (word // n_classes) % 2 == 1
    return ConceptActivations("classes", {"kind": classes}, acts, {"kind": label}, word, heldout, prefixes)

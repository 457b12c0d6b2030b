"""Names of dictionaries that are compared for their rate: the same for all seeds of one, and for no other."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from saes.member_names import differing_settings
from saes.sweep_pairs import deciding_settings, seed_groups
from saes.train_config import TrainConfig


def dictionary_names(plain: Sequence[str], configs: Sequence[TrainConfig], paths: Sequence[Path]) -> list[str]:
    """A name for each run, all of one model and text: equal where runs of one plain name are seeds of one dictionary.

    It is the plain one, with whatever else sets dictionaries of that name apart: settings or, where those that differ
    tell nothing, the folder of the first run. Runs on another device, or with other checkpoints, are seeds of one
    dictionary all the same (saes.sweep_pairs). A run whose seed another of its dictionary has too is no further seed:
    it is named by its folder and stands for itself.
    """
    names = [""] * len(plain)
    for shared in dict.fromkeys(plain):
        alike = {str(index): configs[index] for index, one in enumerate(plain) if one == shared}
        groups = [[int(member) for member in members] for members in seed_groups(alike).values()]
        told = _apart(shared, [configs[members[0]] for members in groups])
        for name, members in zip(told, groups, strict=True):
            seeds = Counter(configs[member].seed for member in members)
            further = [member for member in members if seeds[configs[member].seed] == 1]
            first = f", {paths[further[0]]}" if further and told.count(name) > 1 else ""
            for member in members:
                names[member] = name + (first if member in further else f", {paths[member]}")
    return names


def _apart(plain: str, configs: Sequence[TrainConfig]) -> list[str]:
    """A name for each group: the plain one and, if it has several, the settings in which they differ."""
    if len(configs) == 1:
        return [plain]
    told = differing_settings([deciding_settings(config) for config in configs])
    return [f"{plain}, {differing}" if differing else plain for differing in told]

"""Names of dictionaries that are compared for their rate: the same for all seeds of one, and for no other."""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from saes.member_names import member_names
from saes.sweep_pairs import seed_groups
from saes.train_config import TrainConfig


def dictionary_names(plain: Sequence[str], configs: Sequence[TrainConfig], paths: Sequence[Path]) -> list[str]:
    """A name for each run: equal where runs of one plain name differ in their seed alone, and nowhere else.

    It is the plain one, with whatever else sets groups of that name apart. A run whose seed another of its group has
    too is no further seed: it is named by its folder and stands for itself.
    """
    names = [""] * len(plain)
    for shared in dict.fromkeys(plain):
        alike = {str(index): configs[index] for index, one in enumerate(plain) if one == shared}
        groups = list(seed_groups(alike).values())
        for name, members in zip(_apart(shared, [alike[one[0]] for one in groups]), groups, strict=True):
            for member in members:
                names[int(member)] = name
    told = [(name, config.seed) for name, config in zip(names, configs, strict=True)]
    counts = Counter(told)
    return [f"{one[0]}, {path}" if counts[one] > 1 else one[0] for one, path in zip(told, paths, strict=True)]


def _apart(plain: str, configs: Sequence[TrainConfig]) -> list[str]:
    """A name for each group: the plain one and, if it has several, the settings in which they differ."""
    if len(configs) == 1:
        return [plain]
    keys = [key for key, _ in TrainConfig.leaves() if key not in ("seed", "out")]
    settings = [{key: attrgetter(key)(config) for key in keys} for config in configs]
    return [f"{plain}, {differing}" for differing in member_names(settings)]

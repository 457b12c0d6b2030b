"""What a session of kills works on: inputs, what commands find, and unbroken runs, each made when first needed."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.cases import OUT, Case, add_label, cases, make_inputs, trained_words
from tests.kills.processes import call_forked, run_forked
from tests.kills.trials import Reference, reference_of


@dataclass(frozen=True, slots=True)
class Scene:
    """A folder of its own."""

    folder: Path
    cases: list[Case]
    _references: dict[str, Reference] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> "Scene":
        """Inputs alone."""
        inputs = folder / "inputs"
        inputs.mkdir()
        # In a child: what is drawn for the model must not move this process's generators.
        call_forked(lambda: make_inputs(inputs), folder / "inputs.log")
        return cls(folder, cases(inputs, folder / "trained" / OUT, folder / "described" / OUT))

    def reference(self, case: Case) -> Reference:
        """The unbroken run of a case."""
        if case.name not in self._references:
            if case.finds is not None and not case.finds.exists():
                self._make_found(case.finds)
            self._references[case.name] = reference_of(case, self.folder / case.name.replace(" ", "_"))
        return self._references[case.name]

    def _make_found(self, run: Path) -> None:
        """A trained run; one whose features are there already, too, with a label."""
        trained = self.folder / "trained"
        if not trained.exists():
            trained.mkdir()
            self._whole(trained_words(self.folder / "inputs"), trained)
        if run.parent != trained:
            shutil.copytree(trained, run.parent)
            self._whole(next(case for case in self.cases if case.command == "features").start, run.parent)
            add_label(run)

    def _whole(self, words: tuple[str, ...], folder: Path) -> None:
        log = folder.with_suffix(".log")
        if run_forked(words, folder=folder, log=log).code != 0:
            raise RuntimeError(log.read_text(errors="replace")[-2000:])

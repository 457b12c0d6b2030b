"""Concept sets on disk: one record a line (.jsonl), or a list of records (.yaml); RAVEL's four files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from interp.errors import DataError
from interp.storage import read_json, write_text
from probes.concepts import Concept, ConceptSets, EntitySet

_RECORD: TypeAdapter[Concept] = TypeAdapter(Concept)


def load_concepts(path: Path | str) -> ConceptSets:
    """Read a file of concepts.

    Raises: DataError in one line that names the file, the record and what is wrong with it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a .jsonl or .yaml file of concepts") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    records = [_parsed(record, where) for where, record in _iter_records(path, text)]
    if not records:
        raise DataError(f"{path}: holds no record; expected examples, a hierarchy or entities (see probes/concepts.py)")
    return ConceptSets.parse({"concepts": records}, source=str(path))


def save_concepts(path: Path, concepts: ConceptSets) -> None:
    """Write one record a line."""
    lines = (
        json.dumps(concept.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)
        for concept in concepts.concepts
    )
    write_text(path, "".join(f"{line}\n" for line in lines))


def load_ravel(folder: Path | str, name: str) -> EntitySet:
    """Entities of RAVEL's own files: `ravel_NAME_entity_attributes.json` and its kin.

    The model is asked for the attribute's value itself; entities that lack an attribute with prompts are left out.

    Raises: ArtifactError if a file is missing or damaged; ConfigError if they do not fit together.
    Source: Huang et al. 2024 (arXiv 2402.17700).
    """
    stem = Path(folder) / f"ravel_{name}"
    attributes, prompts, split = (
        read_json(stem.with_name(f"{stem.name}_{part}.json"))
        for part in ("entity_attributes", "attribute_to_prompts", "entity_to_split")
    )
    templates = {attribute: [text for text in texts if text.count("%s") == 1] for attribute, texts in prompts.items()}
    whole = {entity: held for entity, held in attributes.items() if set(templates) <= set(held)}
    values = {
        "kind": "entities",
        "name": name,
        "entities": {entity: {name: str(value) for name, value in held.items()} for entity, held in whole.items()},
        "templates": templates,
        "answers": {a: {str(v[a]): f" {v[a]}" for v in whole.values()} for a in templates},
        "split": {entity: "train" if split.get(entity) == "train" else "test" for entity in whole},
    }
    return EntitySet.parse(values, source=str(stem))


def _iter_records(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    yield f"{path}, line {number}", json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: not valid JSON ({error}); one record a line") from None
    elif path.suffix in (".yaml", ".yml"):
        try:
            records = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())[:120]})") from None
        if not isinstance(records, list):
            raise DataError(f"{path}: got {type(records).__name__}; expected a list of records")
        yield from ((f"{path}, record {index}", record) for index, record in enumerate(records, start=1))
    else:
        raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; expected .jsonl or .yaml")


def _parsed(record: Any, where: str) -> Concept:
    try:
        return _RECORD.validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        # The first part is the kind, by which the record was read.
        place = ".".join(str(part) for part in first["loc"][1:])
        message = " ".join(str(first["msg"]).removeprefix("Value error, ").split())
        raise DataError(f"{where}: {place + ': ' if place else ''}{message[:200]}") from None

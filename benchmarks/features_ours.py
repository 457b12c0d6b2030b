"""Our side of benchmarks/features.py: one pass over the rows, everything about every feature, written to disk."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dashboards.tokens import token_texts
from interp.datasets import TokenBatch
from interp.models import load_model
from interp.storage import read_json, read_tensors
from saes.features import FeatureSettings, write_features
from saes.io import load_sae

sys.path.insert(0, str(Path(__file__).parent))

from features import row_batch

ROWS_AT_A_TIME = 64


class Rows:
    """The benchmark's rows as a token source."""

    def __init__(self, token_ids: torch.Tensor) -> None:
        self._token_ids = token_ids

    @property
    def facts(self) -> dict[str, Any]:
        return {}

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[dict[str, int], TokenBatch]]:
        assert not cursor
        for number, rows in enumerate(self._token_ids.split(ROWS_AT_A_TIME)):
            batch = row_batch(rows)
            document = batch.document + number * ROWS_AT_A_TIME
            moved = TokenBatch(batch.token_ids, batch.keep, batch.attention_mask, batch.position_ids, document)
            yield {"epoch": 0, "document": number, "batch": 0}, moved
        yield {"epoch": 1, "document": 0, "batch": 0}, moved


def main(folder: Path, d_sae: str, clock: str) -> None:
    """Print seconds in all and by stage."""
    rows = read_tensors(folder / "rows.safetensors")["token_ids"]
    model, sae = load_model(str(folder / "model"), device="cpu"), load_sae(folder / f"sae_{d_sae}")
    hook = read_json(folder / "task.json")["hook"]
    assert sae.hooks_in == (hook,)
    stages: dict[str, float] = {}
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    started = now()

    def on_progress(stage: str, _done: int, _total: int) -> None:
        stages[stage] = round(now() - started, 2)

    settings = FeatureSettings(n_tokens=rows.numel())
    out = folder / f"features_{d_sae}"
    texts = token_texts(model.tokenizer)
    found = write_features(model, sae, Rows(rows), out, settings, token_texts=texts, on_progress=on_progress)
    seconds = round(now() - started, 2)
    l0 = round(float(found.density.sum()), 2)
    disk = round(sum(path.stat().st_size for path in out.iterdir()) / 2**20)
    print(json.dumps({"seconds": seconds, "until": stages, "l0": l0, "disk_mb": disk}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

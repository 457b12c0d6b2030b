import os
import subprocess
import sys
import time

import pytest
import torch

from saes.planning.machine import available_bytes, existing_parent, free_disk_bytes, process_seconds

CPU = torch.device("cpu")
GROW = """
import torch
from saes.planning.machine import peak_bytes
before = peak_bytes(torch.device("cpu"))
held = torch.ones(100_000_000)
del held
print((peak_bytes(torch.device("cpu")) - before) / 4e8)
"""


def test_the_peak_is_what_was_held_at_worst():
    """In a process of its own: whatever this one has held before would hide it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", GROW], capture_output=True, text=True, check=True, env=environment)
    # Importing may have held more for a moment than it holds now.
    assert float(done.stdout) == pytest.approx(1, abs=0.3)


def test_memory_and_disk_are_what_the_system_says(tmp_path):
    assert 0 < available_bytes(CPU) <= 1 << 50
    assert free_disk_bytes(tmp_path / "a" / "b" / "c") > 0
    assert existing_parent(tmp_path / "a" / "b" / "c") == tmp_path


def test_a_process_knows_its_age():
    code = "import time; time.sleep(0.3); from saes.planning.machine import process_seconds; print(process_seconds())"
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.3 <= float(done.stdout) <= time.perf_counter() - begun
    assert process_seconds() > float(done.stdout)

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import saes.planning.machine as machine
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
LARGE_PARENT = """
import subprocess, sys
held = b"x" * 1_500_000_000
child = "import torch; from saes.planning.machine import peak_bytes; print(peak_bytes(torch.device('cpu')))"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout)
"""
MEMINFO = "MemTotal:       16000000 kB\nMemAvailable:    1000000 kB\nHugePages_Total:       0\n"
STATUS = "Name:\tpython\nVmHWM:\t  900000 kB\nRssAnon:\t  300000 kB\nRssFile:\t  200000 kB\nRssShmem:\t       4 kB\n"


def _printed(code):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system that says what the test writes."""
    for name in ("_PROCESS", "_CGROUP"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(machine, name, tmp_path / name)
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine.os, "sysconf", {"SC_PHYS_PAGES": 4_000_000, "SC_PAGE_SIZE": 4096}.get)
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "_PROCESS" / "status").write_text(STATUS)
    return tmp_path


def test_the_peak_is_what_was_held_at_worst():
    """In a process of its own: whatever this one has held before would hide it."""
    # Importing may have held more for a moment than it holds now.
    assert _printed(GROW) == pytest.approx(1, abs=0.3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a program's own peak")
def test_the_peak_is_not_that_of_what_started_the_process():
    assert _printed(LARGE_PARENT) < 1.2e9


@pytest.mark.parametrize("name", ["plan.py", "memory.py"])
def test_a_benchmark_that_asks_the_system_for_a_peak_is_small_itself(name):
    """What it starts begins with its peak."""
    path = Path(__file__).parents[4] / "benchmarks" / name
    load = (
        f"import runpy, sys; runpy.run_path({str(path)!r}); print(len({{'torch', 'numpy', 'saes'}} & {{*sys.modules}}))"
    )
    assert _printed(load) == 0


def test_what_the_process_holds_is_available_to_it(system):
    """Its own pages can hold the run; the files that it has mapped are in MemAvailable already."""
    assert available_bytes(CPU) == 1_300_004 * 1024


def test_what_the_process_holds_is_not_beyond_the_memory_there_is(system):
    (system / "meminfo").write_text("MemAvailable: 15990000 kB\n")
    assert available_bytes(CPU) == 4_000_000 * 4096


def test_a_control_group_can_drop_the_files_it_has_read(system):
    group = system / "_CGROUP"
    (group / "memory.max").write_text("800000000\n")
    (group / "memory.current").write_text("700000000\n")
    (group / "memory.stat").write_text("anon 350000000\ninactive_file 250000000\nactive_file 5\n")
    assert available_bytes(CPU) == 800_000_000 - 450_000_000 + 300_004 * 1024
    (group / "memory.max").write_text("max\n")
    assert available_bytes(CPU) == 1_300_004 * 1024


@pytest.mark.parametrize(
    ("share", "n"), [("max 100000", 3), ("200000 100000", 2), ("50000 100000", 1), ("900000 100000", 3)]
)
def test_cores_are_those_that_the_process_may_use(system, monkeypatch, share, n):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert machine.n_cores() == 3
    (system / "_CGROUP" / "cpu.max").write_text(f"{share}\n")
    assert machine.n_cores() == n


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

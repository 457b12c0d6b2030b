"""What this machine has: memory, disk, and how much of them this process has used."""

import os
import resource
import shutil
import sys
import time
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def process_seconds() -> float:
    """How long this process has been running; where the system does not tell, how long it has computed."""
    stat = _PROCESS / "stat"
    if not stat.exists():
        return time.process_time()
    # The process's name, in brackets, may hold anything; 20 fields after it stands the start, in ticks since boot.
    started = int(stat.read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_bytes(device: torch.device) -> int:
    """Most memory that this process has held so far: of the device on CUDA, else resident.

    Where the system does not tell the program's own peak (macOS), what started it may have held that much instead.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # ru_maxrss outlives exec: it has the parent's peak in it, which may be larger.
    if (peak := _kilobytes(_PROCESS / "status").get("VmHWM")) is not None:
        return peak * 1024
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_bytes(device: torch.device) -> int:
    """Memory that this process could come to hold without pushing others out, with what it holds already."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_reserved(device))
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    status = _kilobytes(_PROCESS / "status")
    # Pages of files that it has mapped count as available already.
    held = 1024 * (status.get("RssAnon", 0) + status.get("RssShmem", 0))
    if _MEMINFO.exists():
        found.append(_kilobytes(_MEMINFO)["MemAvailable"] * 1024 + held)
    limit = _CGROUP / "memory.max"
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        found.append(int(text) - _cgroup_used() + held)
    return min(found)


def n_cores() -> int:
    """Cores of the processor that this process may use; of a control group's share of time, as many as it fills."""
    # Not on macOS.
    found = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    limit = _CGROUP / "cpu.max"
    if limit.exists() and (words := limit.read_text().split())[0].isdigit():
        found.append(max(1, round(int(words[0]) / int(words[1]))))
    return min(found)


def _cgroup_used() -> int:
    """What the control group holds and cannot drop: the files that it read last lie in its cache, and may go."""
    stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    return int((_CGROUP / "memory.current").read_text()) - int(stat["inactive_file"])


def _kilobytes(path: Path) -> dict[str, int]:
    """The sizes of a `name: 12 kB` listing; none where the system has no such file."""
    if not path.exists():
        return {}
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].removesuffix(":"): int(words[1]) for words in lines if words[2:] == ["kB"]}


def free_disk_bytes(path: Path) -> int:
    """Free space where `path` will stand."""
    return shutil.disk_usage(existing_parent(path)).free


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    return next(parent for parent in path.resolve().parents if parent.is_dir())

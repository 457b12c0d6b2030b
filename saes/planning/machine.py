"""What this machine has: memory, disk, and how much of them this process has used."""

import os
import resource
import shutil
import sys
import time
from pathlib import Path

import torch


def process_seconds() -> float:
    """How long this process has been running; where the system does not tell, how long it has computed."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return time.process_time()
    # The process's name, in brackets, may hold anything; 20 fields after it stands the start, in ticks since boot.
    started = int(stat.read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_bytes(device: torch.device) -> int:
    """Most memory that this process has held so far: of the device on CUDA, else resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_bytes(device: torch.device) -> int:
    """Memory that a new process could take without pushing others out."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        found.append(int(text) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    return min(found)


def free_disk_bytes(path: Path) -> int:
    """Free space where `path` will stand."""
    return shutil.disk_usage(existing_parent(path)).free


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    return next(parent for parent in path.resolve().parents if parent.is_dir())

"""What processes use: processor time and memory. On a shared machine these say more than the clock on the wall."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 2**20


def postmaster(data: Path) -> psutil.Process:
    """The PostgreSQL server process whose data are in this folder (the first line of its `postmaster.pid`)."""
    return psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all its descendants."""
    return [process, *process.children(recursive=True)]


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time of a process, its living descendants and its ended children."""
    found = 0.0
    for one in family(process):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it ended between being listed and being asked; its parent's `children_` times have it
        found += times.user + times.system + times.children_user + times.children_system
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (2**20 bytes), summed over processes. A page that two processes share counts in `rss` for both, in
    `pss` by halves, in `uss` for nobody."""

    rss: float
    uss: float
    pss: float


def memory_of(processes: Iterable[psutil.Process]) -> Memory:
    """Memory now. A process that has just ended counts nothing. `pss` is 0 where the system does not know it."""
    rss = uss = pss = 0
    for process in processes:
        try:
            found = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        rss, uss, pss = rss + found.rss, uss + found.uss, pss + getattr(found, "pss", 0)
    return Memory(rss / MB, uss / MB, pss / MB)

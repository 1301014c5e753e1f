"""Write mapping files for a test and load them."""

from __future__ import annotations

import textwrap
from pathlib import Path

from hub.mapping import Mappings, load


def folder(root: Path, **files: str) -> Path:
    """`folder(tmp_path, shop__order="...", lookups__items="...")` writes shop/order.yaml and lookups/items.yaml."""
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
    return root


def loaded(root: Path, **files: str) -> Mappings:
    """`folder`, loaded."""
    return load(folder(root, **files))


def mapping_text(fields: str = "a: invoice.id", more: str = "") -> str:
    """A mapping of an invoice with these lines below `fields:` and further top-level lines."""
    body = textwrap.indent(textwrap.dedent(fields).strip(), "  ")
    head = "version: 2\nrecord: order\non: [invoice.paid]\nobject: invoice\nkey: concat('k_', invoice.id)\n"
    return f"{head}fields:\n{body}\n{textwrap.dedent(more).strip()}\n"

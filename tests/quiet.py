"""Tests that are about trouble: its log lines, with tracebacks, would take longer than the trouble."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import structlog


@contextlib.contextmanager
def no_log_lines() -> Iterator[None]:
    """Nothing below critical is written. Loggers used here for the first time do not stay so: others read theirs."""
    before = structlog.get_config()
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)

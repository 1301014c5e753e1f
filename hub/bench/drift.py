"""Is a figure flat? Pure: samples over time in, a verdict out, with its criterion in words.

What a process needs to warm up is not drift, so only the second half of a run counts. Its trend is the median slope
between all pairs of samples (Theil and Sen): a sawtooth, as vacuuming makes it, or one odd sample does not tilt it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

MOST_SAMPLES = 200
"""More are thinned out first: all pairs of them are looked at."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How much a figure may grow over the second half of the run: a share of its median there, or `floor` in its own
    unit, whichever is more. Is the second half shorter than `least` seconds, nothing is said."""

    share: float
    floor: float
    least: float

    def said(self) -> str:
        """The criterion."""
        return f"at most {self.share:.0%} or {self.floor:g} over the second half, if that is {self.least:g} s or longer"


@dataclass(frozen=True, slots=True)
class Drift:
    """What became of one figure. `flat` is None if the run was too short to say."""

    grown: float
    allowed: float
    flat: bool | None


def drift(at: Sequence[float], values: Sequence[float], rule: Rule) -> Drift:
    """`values` sampled `at` these seconds, in order. Shrinking is flat."""
    half = (at[0] + at[-1]) / 2 if at else 0.0
    late = [(t, v) for t, v in zip(at, values, strict=True) if t >= half]
    late = late[:: max(1, -(-len(late) // MOST_SAMPLES))]
    slopes = [(w - v) / (u - t) for n, (t, v) in enumerate(late) for u, w in late[n + 1 :] if u > t]
    if not slopes:
        return Drift(0.0, 0.0, None)
    stretch = late[-1][0] - late[0][0]
    grown = median(slopes) * stretch
    allowed = max(rule.floor, rule.share * median(v for _, v in late))
    enough = at[-1] - half >= rule.least
    return Drift(round(grown, 3), round(allowed, 3), (grown <= allowed) if enough else None)


def verdict(drifts: Mapping[str, Drift]) -> str:
    """`flat`, `not flat: ...`, or `flat as far as ...` if the run was too short for some of it, or for all of it."""
    if grown := [
        f"{name} grew by {d.grown:g} ({d.allowed:g} allowed)" for name, d in drifts.items() if d.flat is False
    ]:
        return f"not flat: {', '.join(grown)}"
    unsaid = [name for name, d in drifts.items() if d.flat is None]
    if len(unsaid) == len(drifts):
        return "too short to judge"
    return f"flat as far as it can be said; too short for {', '.join(unsaid)}" if unsaid else "flat"


def shown(drifts: Mapping[str, Drift]) -> dict[str, Any]:
    """For JSON: what grew by how much, and what was allowed."""
    return {name: {"grown": d.grown, "allowed": d.allowed} for name, d in drifts.items()}

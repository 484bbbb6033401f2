"""Stops a search in which too much goes wrong, before more is paid for (FAULTS M9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from drpo.graph.errors import TooManyFailures

FEWEST = 3
"""Fewer failures at a level are nothing to stop for."""
MOST_SHOWN = 2
LONGEST_SHOWN = 200


def hold_to_limit(
    what: str, level: int, reasons: Sequence[str | None], limit: float | None, fewest: int = FEWEST
) -> None:
    """`reasons` say of each thing at a level why it failed, None where it did not.

    Raises TooManyFailures above `limit`, a share (None for no limit), from `fewest` failures on.
    """
    failed = [reason for reason in reasons if reason is not None]
    if limit is None or len(failed) < fewest or len(failed) <= limit * len(reasons):
        return
    common = Counter(reason[:LONGEST_SHOWN] for reason in failed).most_common(MOST_SHOWN)
    examples = "; ".join(f"{reason} ({count} times)" for reason, count in common)
    raise TooManyFailures(
        f"{len(failed)} of {len(reasons)} {what} of level {level} failed, above "
        f"budget.failures={limit:g}: {examples}. They are asked for again when the run is resumed; "
        "budget.failures=null lets it go on as it is"
    )

"""How things are said to people: figures, sums, and texts of models, in which nothing acts.

Strings alone; does not know where they are shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

SHORT_ID = 8
"""Characters of a run's id or of a call's key."""
SIMULATED = "simulated models: the scores mean nothing outside the sandbox"
LEAST_IN_CENTS = 0.1
"""US dollars; smaller sums are shown to the hundredth of a cent."""
_UNSEEN = r"\x7f-\x9f\u200b\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f"
"""Controls, marks that turn the direction of text, and signs that show nothing, by which a prompt
may say what only a model reads. Not joiners: scripts and emoji need them. dom.js has the same."""
_CONTROL = re.compile(rf"[\x00-\x08\x0b-\x1f{_UNSEEN}]")
_ESCAPED = re.compile(rf"[{_UNSEEN}]")
"""What JSON leaves as it is."""


def plain(text: str) -> str:
    """Text without what a terminal would act on."""
    # Most text is: the look takes a third of the time of the search.
    return text if text.isprintable() else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def escaped(told: str) -> str:
    """JSON, with an escape in place of what a terminal would act on: it means the same."""
    # As above.
    if told.isprintable():
        return told
    return _ESCAPED.sub(lambda found: json.dumps(found[0])[1:-1], told)


def one_line(text: str) -> str:
    """Plain, and without line breaks."""
    return plain(" ".join(text.split()))


def shortened(text: str, characters: int) -> str:
    """One line, no longer than that."""
    line = one_line(text)
    return line if len(line) <= characters else f"{line[: characters - 3].rstrip()}..."


def counted(number: int, thing: str) -> str:
    """`1 example`, `2 examples`, `3 queries`."""
    if number != 1:
        thing = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{number:,} {thing}"


def scored(value: float | None, digits: int = 2) -> str:
    """A reward, a score or a mean of them; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def so_far(status: str) -> str:
    """Behind what a run found or took: as long as it is not done, that may change."""
    return "" if status == "done" else " so far"


def called(deployed: Mapping[str, Any] | None, status: str) -> str:
    """The prompt that a run came to: what an alignment deploys, else the best one."""
    if deployed is None:
        return f"best prompt{so_far(status)}"
    return "prompt to be tested" if deployed["real"] is None else "prompt to use"


def dollars(cost: float) -> str:
    """With cents, or as far as a small sum needs."""
    return f"${cost:,.2f}" if cost == 0 or cost >= LEAST_IN_CENTS else f"${cost:.4f}"

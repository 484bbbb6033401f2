"""Everything that stops a run or a command.

DrpoError
├── BadInput            the user's words: configuration, files, arguments     exit code 2
├── RunFailed           something is broken and has to be mended              exit code 1
│   └── RunOwned        another process is running it                         exit code 1
└── RunPaused           the run stopped in good order and can be resumed      exit code 3
    ├── BudgetReached   a limit of `budget` is used up                        exit code 4
    ├── ProviderStopped the model's server is away for too long, or broken    exit code 5
    │   └── ProviderRefused  it knows no such key or model                    exit code 5
    └── TooManyFailures more of a level failed than `budget.failures` allows  exit code 5

What a model says wrong is no error: nodes return it as data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

LONGEST_PLACE = 200
"""Characters of where something is wrong: a file chooses the names."""


class DrpoError(Exception):
    """Root of the tree; its text is one line for a person."""

    exit_code = 1


class BadInput(DrpoError):
    """What, where, and what is allowed. Nothing was written."""

    exit_code = 2


class RunFailed(DrpoError):
    """The run cannot go on as it is, e.g. its file cannot be written."""

    exit_code = 1


class RunOwned(RunFailed):
    """Another process is running this run."""


class RunPaused(DrpoError):
    """The run stopped with nothing lost; `drpo resume` goes on."""

    exit_code = 3


class BudgetReached(RunPaused):
    """The next call would go over the budget."""

    exit_code = 4


class ProviderStopped(RunPaused):
    """A model call failed in a way that no further attempt can mend now."""

    exit_code = 5


class ProviderRefused(ProviderStopped):
    """The server knows no such key or model; before the first answer this is BadInput."""


class TooManyFailures(RunPaused):
    """Models answer, but too seldom with anything that can be used."""

    exit_code = 5


def problem_of(error: ValidationError) -> str:
    """What pydantic found first, and where, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:LONGEST_PLACE]
    said = first["msg"].removeprefix("Value error, ")
    return " ".join((f"{place}: {said}" if place else said).split())

"""`drpo show`, view by view: which runs it is about, what is read of them, how that is printed.

A view is one function in `VIEWS`; none knows another. Each imports what it alone needs, because
the summary should not wait for what only `why` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints import reader
from drpo.checkpoints.runs import find_run, reading
from drpo.graph.errors import BadInput
from drpo.terminal.runs import (
    print_examples,
    print_json,
    print_summary,
    print_trace,
    print_tree,
    print_with_nodes,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the command line says."""

    words: Sequence[str]
    """Each names a run; of `diff` also a candidate."""
    runs: Path
    candidate: int | None
    as_json: bool
    say: Callable[[str], None]
    """Is told what is odd about the folder of runs."""

    def run(self) -> Path:
        """The one that is named, else the newest. Raises BadInput for more than one."""
        if len(self.words) > 1:
            raise BadInput(f"one RUN at a time, not {' and '.join(self.words)}")
        return find_run(self.runs, self.words[0] if self.words else None, say=self.say)


def show(view: str, asked: Asked) -> None:
    """Prints one of `VIEWS`. Raises BadInput."""
    if asked.candidate is not None and view != "why":
        raise BadInput(f"--candidate is for --view why, not for {view}")
    VIEWS[view](asked)


def _summary(asked: Asked) -> None:
    told = reader.summary(asked.run())
    print_json(told) if asked.as_json else print_summary(told, asked.runs)


def _tree(asked: Asked) -> None:
    _nodes(asked, reader.tree_of, print_tree)


def _trace(asked: Asked) -> None:
    _nodes(asked, reader.trace_of, print_trace)


def _nodes(
    asked: Asked,
    read: Callable[[Database], Sequence[Mapping[str, Any]]],
    print_text: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], None],
) -> None:
    path = asked.run()
    with reading(path) as db:
        # The hash of the tree reads every verdict, and the text does without it.
        told, nodes = reader.summary_of(db, path, with_tree=asked.as_json), read(db)
    print_with_nodes(told, nodes) if asked.as_json else print_text(told, nodes)


def _examples(asked: Asked) -> None:
    told = reader.summary(asked.run(), with_tree=False)
    print_json(told["examples"]) if asked.as_json else print_examples(told)


def _why(asked: Asked) -> None:
    from drpo.terminal.why import print_why
    from drpo.why import why

    told = why(asked.run(), asked.candidate)
    print_json(told) if asked.as_json else print_why(told)


def _insights(asked: Asked) -> None:
    from drpo.insights import insights
    from drpo.terminal.insights import print_insights

    named: Iterable[str | None] = asked.words or [None]
    paths = dict.fromkeys(find_run(asked.runs, name, say=asked.say) for name in named)
    told = insights(list(paths))
    print_json(told) if asked.as_json else print_insights(told)


def _diff(asked: Asked) -> None:
    from drpo.comparison import comparison, sides
    from drpo.terminal.comparison import print_comparison

    told = comparison(*sides(asked.words, asked.runs, say=asked.say))
    print_json(told) if asked.as_json else print_comparison(told)


VIEWS: Mapping[str, Callable[[Asked], None]] = {
    "summary": _summary,
    "tree": _tree,
    "trace": _trace,
    "examples": _examples,
    "why": _why,
    "insights": _insights,
    "diff": _diff,
}

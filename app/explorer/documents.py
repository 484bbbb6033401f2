"""The JSON documents that the page shows, out of a run's file: the same embedded and served.

A run's overview with its tree, blocks of candidates, sentences to search in, why, insights. Plain
data; does not know the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drpo.analysis.sentences import match, pieces, sentences
from drpo.checkpoints import details, reader
from drpo.checkpoints.facts import searches
from drpo.checkpoints.rows import dumps, value_of
from drpo.checkpoints.runs import reading, run_files
from drpo.graph.errors import BadInput
from drpo.insights import insights
from drpo.why import why
from drpo.wording import called

Document = dict[str, Any]


def encoded(document: object) -> bytes:
    """As JSON in UTF-8, in which a lone half of a character has no place: it is replaced."""
    return dumps(document).encode("utf-8", "replace")


def run_row(path: Path) -> Document:
    """A run in a list of runs."""
    return _row(path, reader.summary(path, with_tree=False))


def run_rows(folder: Path) -> Document:
    """Those of a folder, newest first, and what is wrong with the files that are none."""
    files, rows = run_files(folder), []
    broken = dict(files.unreadable)
    for path in reversed(files.runs):
        try:
            rows.append(run_row(path))
        except BadInput as error:
            broken[path] = str(error)
    return {"runs": rows, "unreadable": [path.name for path in broken]}


def _row(path: Path, told: Mapping[str, Any]) -> Document:
    best = told["best"]
    return {
        "run": path.stem,
        **{name: told[name] for name in ("kind", "status", "reason", "level", "candidates")},
        **{name: told[name] for name in ("created_at", "updated_at", "seconds", "cost_usd")},
        "simulated": told["simulated"],
        "models": told["models"],
        "calls": sum(count["new"] for count in told["calls"].values()),
        "path_value": best and best["path_value"],
    }


def overview(path: Path) -> Document:
    """A run in short, its searches, its tree, and what each level took."""
    with reading(path) as db:
        told = reader.summary_of(db, path)
        settings = value_of(next(db.query("select settings from run")), "settings")
        # Of an example's search there is no extension, and a fork may have other levels.
        extended = settings["search"]["levels"] if told["kind"] != "examples" else None
        return {
            "run": path.stem,
            "summary": told | {"path": path.name},
            "called": called(told["deployed"], told["status"]),
            "first_extended": extended,
            "width": settings["search"]["width"],
            "searches": searches(db),
            "arms": details.arms(db),
            "tree": details.branches(db),
            "levels": details.levels(db),
        }


def candidates(path: Path, numbers: Sequence[int]) -> Document:
    """A block of candidates with everything behind them."""
    with reading(path) as db:
        return with_changes(details.Details(db).block(numbers))


def with_changes(block: Document) -> Document:
    """A block in which each candidate's prompts stand sentence by sentence, against its parent's.

    A change is (kind, text), or (kind, pieces) where words of a sentence changed.
    """
    texts = block["texts"]
    for one in block["candidates"].values():
        before = one.pop("before")
        # Where there is no parent nothing changed; a prompt that it does not have was nothing.
        was = None if before is None else {name: texts[text] for name, text in before.items()}
        one["changes"] = {
            name: _changes(None if was is None else was.get(name, ""), texts[text])
            for name, text in one["prompts"].items()
        }
    return block


def _changes(before: str | None, after: str) -> list[list[Any]]:
    now = sentences(after)
    if before is None:
        return [["kept", each] for each in now]
    found: list[list[Any]] = []
    for pair in match(sentences(before), now):
        if pair.kind == "changed":
            told = pieces(pair.before or "", pair.after or "")
            found.append(["changed", [[each.kind, each.text] for each in told]])
        else:
            found.append([pair.kind, pair.after if pair.after is not None else pair.before])
    return found


def sentence_index(path: Path) -> Document:
    """Every sentence of every prompt once, and which of them each candidate has."""
    places: dict[str, int] = {}
    cut: dict[str, list[int]] = {}
    found: dict[int, list[int]] = {}
    with reading(path) as db:
        for number, texts in details.prompt_texts(db):
            mine: list[int] = []
            for text in texts:
                if text not in cut:
                    cut[text] = [places.setdefault(s, len(places)) for s in sentences(text)]
                mine += cut[text]
            found[number] = mine
    return {"sentences": list(places), "candidates": found}


MORE: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {
    "sentences": sentence_index,
    "why": why,
    "insights": lambda path: insights([path]),
}
"""Documents of a run that are read when they are asked for, by name."""


def more(path: Path, name: str) -> Mapping[str, Any]:
    """One of them; what a run cannot have yet is told in its place."""
    try:
        return MORE[name](path)
    except BadInput as error:
        return {"error": str(error)}

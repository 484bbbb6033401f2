"""Looks at what an alignment found, read-only: its examples, its choice, its confirmation.

Plain dicts, ready for JSON; a file of an older version has none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.facts import ensure_met, prompts_of
from drpo.checkpoints.rows import finding_of
from drpo.graph.values import ROOT


def examples(db: Database) -> list[dict[str, Any]]:
    """In order; with the reward of the search that optimized it, and of where that began."""
    if "example" not in db.table_names():
        return []
    ensure_met(db, "example")
    return list(
        db.query(
            "select asked.body as query, said.body as answer, best.reward, root.reward as before"
            " from example join text asked on asked.sha256 = example.query"
            " join text said on said.sha256 = example.answer"
            " left join candidate best on best.id = example.candidate"
            " left join candidate root on root.search = best.search and root.parent is null"
            " order by number"
        )
    )


def deployed(db: Database) -> dict[str, Any] | None:
    """What an alignment ended in: the challenger if its gain is real, else the root by itself.

    The challenger, too, as long as it is not tested: then `real` is None.
    """
    ensure_met(db, "finding")
    told = findings(db)
    found = told.get("confirm", told.get("select"))
    if found is None:
        return None
    real = found.get("real")
    stays = real is False
    candidate = ROOT if stays else found["challenger"]
    [row] = db.query("select id, prompts from candidate where id = ?", [candidate])
    return {
        "candidate": candidate,
        "prompts": prompts_of(db, row),
        "with_examples": found["with_examples"] and not stays,
        "real": real,
    }


def findings(db: Database) -> dict[str, Any]:
    """By stage, what came of it so far."""
    rows: Iterable[dict[str, Any]] = ()
    if "finding" in db.table_names():
        rows = db.query("select name, body from finding")
    return {row["name"]: finding_of(row) for row in rows}

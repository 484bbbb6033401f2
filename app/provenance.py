"""An artifact out of a run's file, with where it comes from.

Reads only. Of an alignment it is what was confirmed, or the root, or what is still to be tested; of
any other run the best prompt so far.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from drpo.artifact import (
    Artifact,
    Confirmed,
    Found,
    ModelName,
    Provenance,
    UnfoundedSentence,
    read_artifact,
    sealed,
)
from drpo.checkpoints.findings import deployed, findings
from drpo.checkpoints.reader import no_prompt, summary
from drpo.checkpoints.rows import dumps, query_of, query_row, value_of
from drpo.checkpoints.runs import END, find_run, is_file, reading, stored_examples
from drpo.conf.schema import FROM_ENVIRONMENT, OF_HEADERS, Settings
from drpo.graph.errors import BadInput
from drpo.graph.values import ROLES, Example
from drpo.nodes.prompts import JinjaTemplates
from drpo.nodes.target import Wording
from drpo.settings import stored_settings
from drpo.why import unfounded, why

TEMPLATES = ("target_chat", "target_text")
CENTS = 6
"""Decimals of a sum of dollars: the order of its parts shows in the last ones."""


def artifact_named(
    name: str | None, runs: Path, *, say: Callable[[str], None] = lambda _: None
) -> Artifact:
    """The one in a file, or of a run: its file, how its id begins, or the newest. Raises BadInput.

    `say` is told as by `find_run`.
    """
    if name is not None and is_file(Path(name)) and name.endswith(END):
        return artifact_of_run(Path(name))
    if name is not None and (name.endswith(".json") or os.sep in name or is_file(Path(name))):
        return read_artifact(name)
    return artifact_of_run(find_run(runs, name, say=say))


def artifact_of_run(path: Path) -> Artifact:
    """Of a finished or paused run. Raises BadInput where it has no prompt yet."""
    with reading(path) as db:
        examples = tuple(stored_examples(db))
        chosen, found = deployed(db), findings(db).get("confirm")
    if chosen is None:
        return artifact_with(path, examples=examples)
    return artifact_with(
        path,
        prompts=chosen["prompts"],
        candidate=chosen["candidate"],
        examples=examples if chosen["with_examples"] else (),
        confirm=None if found is None else _confirmed(found),
    )


def _confirmed(found: Mapping[str, Any]) -> Confirmed | None:
    if found["tested"] is None:
        return None
    return Confirmed(
        estimate=found["estimate"],
        p=found["p"],
        interval=None if found["low"] is None else (found["low"], found["high"]),
        n=found["queries"],
        real=found["real"],
        exploratory=found["exploratory"],
    )


def artifact_with(
    path: Path,
    *,
    prompts: Mapping[str, str] | None = None,
    candidate: int | None = None,
    examples: Sequence[Example] = (),
    confirm: Confirmed | None = None,
) -> Artifact:
    """Of a run, `prompts` (of `candidate`) being the run's own where none are given.

    Raises BadInput where the run has no prompt yet, or its templates are not to be had.
    """
    told = summary(path, with_tree=False)
    best = told["best"]
    if best is None:
        raise no_prompt(told["run_id"], told["kind"])
    with reading(path) as db:
        row = next(db.query("select * from run"))
        data = hashlib.sha256()
        for each in db.query("select * from query order by ordinal"):
            data.update(dumps(query_row(query_of(each))).encode())
        level = _level_of(db, candidate) if candidate is not None else best["level"]
    settings = stored_settings(told["run_id"], row["settings"])
    known = value_of(row, "fingerprint").get("templates", {})
    mine = candidate in (None, best["candidate"])
    chosen = best["candidate"] if candidate is None else candidate
    provenance = Provenance(
        run_id=told["run_id"],
        drpo_version=row["drpo_version"],
        date=row["created_at"],
        status=told["status"],
        seed=settings.seed,
        settings=shareable(settings.model_dump(mode="json", by_alias=True)),
        data_sha256=data.hexdigest(),
        models={role: _name(settings, role) for role in ROLES},
        simulated=any(_name(settings, role).provider == "sandbox" for role in ROLES),
        found=Found(
            candidate=chosen,
            level=level,
            path_value=best["path_value"] if mine else None,
        ),
        confirm=confirm,
        unfounded=tuple(
            UnfoundedSentence.model_validate(asdict(each)) for each in unfounded(why(path, chosen))
        ),
        calls={role: told["calls"][role]["new"] for role in ROLES},
        cost_usd=None if told["cost_usd"] is None else round(told["cost_usd"], CENTS),
    )
    target = settings.models.target
    content = {
        "prompts": dict(prompts or best["prompts"]),
        "examples": [{"query": each.query, "answer": each.answer} for each in examples],
        "retrieval": shareable(settings.retrieval.model_dump(mode="json") | {"path": None}),
        "chat": _chat(settings, known),
        "target": shareable(target.model_dump(mode="json", by_alias=True)),
        "left_out": told["left_out"].get("target", []),
    }
    return sealed(content, provenance)


def _level_of(db: Database, candidate: int) -> int:
    [row] = db.query("select level from candidate where id = ?", [candidate])
    return int(row["level"])


def _name(settings: Settings, role: str) -> ModelName:
    model = getattr(settings.models, role)
    return ModelName(provider=model.provider, model=model.model)


def _chat(settings: Settings, known: Mapping[str, str]) -> dict[str, Any]:
    """How the run's target is written to; a source only where drpo does not bring it."""
    folder, shipped = settings.prompts.folder, JinjaTemplates().hashes()
    mine = {name: known.get(name, shipped[name]) for name in TEMPLATES}
    own = [name for name in TEMPLATES if mine[name] != shipped[name]]
    templates = JinjaTemplates(folder if own else None)
    for name in own:
        if templates.hashes()[name] != mine[name]:
            where = f"changed in {folder!r}" if folder else "another in this version of drpo"
            raise BadInput(
                f"the template {name}.jinja that the run's target was asked with is {where}; "
                f"its sha256 was {mine[name]}"
            )
    style = settings.models.target.format
    return {
        "format": style,
        "stop": Wording(templates, style).stop(),
        "templates": {
            name: {"sha256": mine[name], "source": templates.source(name) if name in own else None}
            for name in TEMPLATES
        },
    }


def shareable(values: Any) -> Any:
    """Settings for others to read: a header's value becomes the name of a variable it goes into."""
    if isinstance(values, list):
        return [shareable(each) for each in values]
    if not isinstance(values, dict):
        return values
    return {
        name: {header: _reference(header, value) for header, value in each.items()}
        if name == "headers" and isinstance(each, dict)
        else shareable(each)
        for name, each in values.items()
    }


def _reference(header: str, value: str) -> str:
    if value.startswith(FROM_ENVIRONMENT):
        return value
    return f"{FROM_ENVIRONMENT}{OF_HEADERS}{re.sub(r'[^A-Z0-9]', '_', header.upper())}"

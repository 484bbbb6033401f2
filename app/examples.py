"""Reads the in-context examples of a run: of a user's JSONL file, an artifact or another run.

Every mistake is one BadInput line that names file and line. Does not know which are shown when.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drpo.artifact import read_artifact
from drpo.checkpoints.runs import load_run
from drpo.conf.schema import RetrievalSettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Example
from drpo.models.retrieval import bare, check_examples
from drpo.queries import LONGEST_QUERY, jsonl_rows, problem_of_line
from drpo.texts import read_text

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_QUERY)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    query: Text
    answer: Text


def load_examples(retrieval: RetrievalSettings) -> list[Example]:
    """In the file's order; none where no file is named.

    Raises BadInput for a file that cannot be read, a bad line, a duplicate, none at all, or one
    that is too long to be shown.
    """
    if retrieval.path is None:
        return []
    where = f"retrieval.path={retrieval.path}"
    examples = _read(retrieval.path, where)
    if not examples:
        raise BadInput(f"{where}: there are no examples")
    check_examples(examples, retrieval)
    return examples


def _read(path: str, where: str) -> list[Example]:
    suffix = Path(path).suffix.lower()
    if suffix == ".jsonl":
        return _examples(path, read_text(path, where))
    try:
        if suffix == ".json":
            return list(read_artifact(path).shown)
        if suffix == ".sqlite":
            return list(load_run(Path(path)).examples)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    raise BadInput(
        f"{where}: a file of examples ends in .jsonl, an artifact in .json, a run in .sqlite"
    )


def _examples(path: str, text: str) -> list[Example]:
    seen: dict[str, int] = {}
    read: list[Example] = []
    for number, values in jsonl_rows(path, text.split("\n")):
        place = f"{path}, line {number}"
        try:
            line = _Line.model_validate(values)
        except ValidationError as error:
            raise BadInput(f"{place}: {problem_of_line(error, _Line)}") from None
        asked = bare(line.query)
        if asked in seen:
            raise BadInput(f"{place}: the same query as in line {seen[asked]}")
        seen[asked] = number
        read.append(Example(line.query, line.answer))
    return read

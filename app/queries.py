"""Reads the queries of a run: the shipped ones, or a user's JSONL, CSV or plain lines.

Every mistake is one BadInput line that names file and line. Does not know what they are for.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from drpo.conf.schema import DataSettings
from drpo.graph.errors import BadInput, problem_of
from drpo.graph.values import Message, Query
from drpo.models.sandbox.queries import queries, split_names
from drpo.texts import read_text

BUILTIN = "builtin:"
SANDBOX = "sandbox:"
LONGEST_QUERY = 100_000
"""Characters; beyond it no model of today reads to the end."""
COLUMNS = ("text", "id", "tags", "reference", "answer")
SHIPPED = ("train", "held_out", "seeds")
SUFFIXES = (".jsonl", ".csv", ".txt")

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_QUERY)]


def _split(said: object) -> object:
    return [tag.strip() for tag in said.split(",")] if isinstance(said, str) else said


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    role: Literal["system", "user", "assistant"]
    content: Text


class _Line(BaseModel):
    """One line of a data file; `id` is the line's number where it has none."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, coerce_numbers_to_str=True)
    id: str = Field(min_length=1, max_length=200)
    text: Text | None = None
    messages: list[_Turn] | None = None
    tags: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    reference: Text | None = None
    answer: Text | None = None

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise ValueError("a query has either `text` or `messages`")
        if self.messages is not None and (not self.messages or self.messages[-1].role != "user"):
            raise ValueError("the last of `messages` has to be the user's")
        return self

    def turns(self) -> tuple[Message, ...]:
        """The query as turns."""
        if self.messages is None:
            return (Message("user", self.text or ""),)
        return tuple(Message(turn.role, turn.content) for turn in self.messages)


def load_queries(data: DataSettings, seed: int) -> list[Query]:
    """The queries a run may use, numbered in the file's order; `limit` draws by the seed.

    Raises BadInput for a file that cannot be read, a bad line, a duplicate, or none at all.
    """
    lines = _lines(data.path, _rows(data.path, "data.path"))
    lines = [line for line in lines if not data.tags or set(data.tags) & set(line.tags)]
    if not lines:
        tagged = f" with one of the tags {', '.join(data.tags)}" if data.tags else ""
        raise BadInput(f"data.path={data.path}: there are no queries{tagged}")
    if data.limit is not None and data.limit < len(lines):
        drawn = random.Random(f"{seed}:data").sample(range(len(lines)), data.limit)
        lines = [lines[index] for index in sorted(drawn)]
    return _numbered(lines)


def load_seeds(path: str, limit: int | None, seed: int) -> list[Query]:
    """The seed queries of examples, numbered from 0; `limit` draws by the seed.

    Raises BadInput as `load_queries` does.
    """
    if limit == 0:
        return []
    setting = "examples.path"
    lines = _lines(path, _rows(path, setting))
    if not lines:
        raise BadInput(f"{setting}={path}: there are no queries")
    if limit is not None and limit < len(lines):
        drawn = random.Random(f"{seed}:seeds").sample(range(len(lines)), limit)
        lines = [lines[index] for index in sorted(drawn)]
    return [replace(query, part="seed") for query in _numbered(lines)]


def own_queries(given: Iterable[str | Query]) -> list[Query]:
    """Queries from Python, by the rules of a file's lines. Raises BadInput."""
    rows = ({"text": each} if isinstance(each, str) else _row(each) for each in given)
    lines = _lines("queries", enumerate(rows, 1))
    if not lines:
        raise BadInput("queries: there are none")
    return _numbered(lines)


def _row(query: Query) -> dict[str, Any]:
    turns = [asdict(turn) for turn in query.messages]
    return {
        "id": query.id,
        "messages": turns,
        "tags": query.tags,
        "reference": query.reference,
        "answer": query.answer,
    }


def _numbered(lines: Iterable[_Line]) -> list[Query]:
    return [
        Query(at, line.id, line.turns(), line.tags, line.reference, line.answer)
        for at, line in enumerate(lines)
    ]


def _lines(source: str, rows: Iterable[tuple[int, dict[str, Any]]]) -> list[_Line]:
    seen: dict[object, str] = {}
    read: list[_Line] = []
    for number, values in rows:
        place = f"{source}, line {number}"
        try:
            line = _Line.model_validate({"id": str(number)} | values)
        except ValidationError as error:
            raise BadInput(f"{place}: {problem_of_line(error, _Line)}") from None
        for what, key in (("id", line.id), ("query", line.turns())):
            if (what, key) in seen:
                raise BadInput(f"{place}: the same {what} as in line {seen[what, key]}")
            seen[what, key] = str(number)
        read.append(line)
    return read


def _rows(path: str, setting: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of the file that `setting` names."""
    if path.startswith(BUILTIN):
        yield from jsonl_rows(path, _builtin(path, setting).splitlines())
        return
    if path.startswith(SANDBOX):
        simulated = enumerate(_simulated(path, setting), 1)
        yield from ((number, {"text": text}) for number, text in simulated)
        return
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"{setting}={path}: a data file ends in {', '.join(SUFFIXES)}")
    text = read_text(path, f"{setting}={path}")
    if suffix == ".jsonl":
        yield from jsonl_rows(path, text.split("\n"))
    elif suffix == ".csv":
        yield from _csv(path, text)
    else:
        lines = enumerate(text.splitlines(), 1)
        yield from ((number, {"text": line}) for number, line in lines if line.strip())


def _builtin(path: str, setting: str) -> str:
    name = path.removeprefix(BUILTIN)
    file = files("drpo.conf") / "data" / f"{name}.jsonl"
    if name not in SHIPPED:
        there = ", ".join(f"{BUILTIN}{each}" for each in SHIPPED)
        raise BadInput(f"{setting}={path}: there are {there}")
    return file.read_text("utf-8")


def _simulated(path: str, setting: str) -> Sequence[str]:
    name = path.removeprefix(SANDBOX)
    if name not in split_names():
        there = " and ".join(f"{SANDBOX}{split}" for split in split_names())
        raise BadInput(f"{setting}={path}: there are {there}")
    return queries(name)


def jsonl_rows(path: str, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line that is not empty. Raises BadInput for what is none."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput(f"{path}, line {number}: it is not JSON") from None
        if not isinstance(values, dict):
            raise BadInput(f"{path}, line {number}: it is not a JSON object")
        yield number, values


def _csv(path: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        _check_columns(path, reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise BadInput(
                    f"{path}, line {reader.line_num}: it has more fields than the header; "
                    "a text with a comma needs quotation marks around it"
                )
            yield reader.line_num, {name: value for name, value in row.items() if value}
    except csv.Error as error:
        # `line_num` is where the row before ends; an open quotation mark takes in all that follows.
        hint = "is there a quotation mark too many, or one too few?"
        raise BadInput(f"{path}, line {reader.line_num + 1}: {error}; {hint}") from None


def _check_columns(path: str, columns: Sequence[str]) -> None:
    wrong = [f"column {name[:40]!r} is not known" for name in columns if name not in COLUMNS]
    if "text" not in columns:
        wrong.append("there is no column 'text'")
    wrong += [f"there are two columns {name!r}" for name in COLUMNS if columns.count(name) > 1]
    if wrong:
        allowed = "allowed are text and, if you like, id, tags, reference and answer"
        raise BadInput(f"{path}, line 1: {wrong[0]}; {allowed}")


def problem_of_line(error: ValidationError, line: type[BaseModel]) -> str:
    """The first thing that is wrong with what should be such a line."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        field = str(first["loc"][0])
        return f"there is no field {field[:100]!r}; allowed are {', '.join(line.model_fields)}"
    return problem_of(error)

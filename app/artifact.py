"""The artifact: one JSON file with all that the aligned model is, and where it comes from.

Reads and writes the file; whatever one says is data, and names code nowhere that is not asked for
by the user's own command (`drpo.acting`). The hash tells damage. It tells no tampering: whoever
changes the file can change the hash with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from drpo.checkpoints.rows import decoded
from drpo.conf.schema import (
    FROM_ENVIRONMENT,
    AnyModelSettings,
    RetrievalSettings,
    Strict,
)
from drpo.graph.errors import BadInput, problem_of
from drpo.graph.values import Example, Role
from drpo.texts import write_whole

FAMILY = "drpo-artifact/"
SCHEMA: Literal["drpo-artifact/1"] = "drpo-artifact/1"
LARGEST_MB = 32
"""Of a file that is read: prompts and examples are small."""
DEEPEST = 64
"""Brackets within brackets."""
BESIDE_CONTENT = ("provenance", "content_sha256")
"""What does not act."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]


class ArtifactExample(Strict):
    """A query with a good answer."""

    query: Text
    answer: Text


class ArtifactRetrieval(RetrievalSettings):
    """Which of the examples the model is shown before a query; `path` is null."""

    path: None = None  # pyright: ignore[reportIncompatibleVariableOverride] - frozen, so narrower


class Template(Strict):
    """A file that says how prompts, examples and query become messages."""

    sha256: Sha256
    """Of its source."""
    source: str | None = None
    """Where it is not one of drpo's own."""


class ChatFormat(Strict):
    """How the messages are written."""

    format: Literal["chat", "text"]
    """Turns, or one text for a base model."""
    stop: tuple[str, ...] = ()
    """Where a base model has to stop."""
    templates: dict[Literal["target_chat", "target_text"], Template]
    """By name; which one acts is told by `format`."""


class ModelName(Strict):
    """Who answered for a role."""

    provider: str
    model: str


class Confirmed(Strict):
    """The one test of the gain over the root, on queries that nothing else had seen."""

    estimate: float = Field(ge=-4, le=4)
    """Mean gain, in points of the scale 1-5."""
    p: float = Field(ge=0, le=1)
    """One-sided, that there is no gain."""
    interval: tuple[float, float] | None = None
    """95 %, of the gain; null for too few queries that differ."""
    n: int = Field(ge=0)
    """Queries."""
    real: bool = True
    """Whether p and estimate were good enough; where they were not, the prompts are the root's."""
    exploratory: bool = False
    """Whether the queries had been read for a test before."""


class Found(Strict):
    """The candidate that the prompts are of."""

    candidate: int
    level: int
    path_value: float | None
    """Mean reward on its path (1-5), on the queries it was chosen by; no estimate of its gain."""


class UnfoundedSentence(Strict):
    """A sentence of a prompt that no low score of the search speaks for."""

    prompt: str
    """Name of the prompt that it is in."""
    text: str
    reason: str
    """Where it comes from, or why there is no evidence."""


class Provenance(Strict):
    """Where an artifact comes from; nothing of it acts."""

    run_id: str
    drpo_version: str
    """That made the run."""
    date: str
    """On which the run was made: UTC, ISO-8601."""
    status: str
    """Of the run, when the artifact was made."""
    seed: int
    settings: dict[str, JsonValue]
    """Of the run; values of headers are names of environment variables."""
    data_sha256: Sha256
    """Of the run's queries."""
    models: dict[Role, ModelName]
    """By role."""
    simulated: bool
    """Whether any role was played by the sandbox: the result means nothing outside it."""
    found: Found
    confirm: Confirmed | None = None
    """null where nothing was confirmed, as after a plain search."""
    unfounded: tuple[UnfoundedSentence, ...] | None = None
    """Sentences of the prompts without evidence; null where nobody looked."""
    calls: dict[Role, int]
    """Of models, by role, that the run paid for."""
    cost_usd: float | None
    """US dollars; null where a price is unknown."""


class Artifact(Strict):
    """All that an aligned model is, and its provenance."""

    schema_: Literal["drpo-artifact/1"] = Field(default=SCHEMA, alias="schema")
    prompts: dict[Text, Text] = Field(min_length=1)
    """By name; a chat model has one, `system`."""
    examples: tuple[ArtifactExample, ...] = ()
    retrieval: ArtifactRetrieval
    chat: ChatFormat
    target: AnyModelSettings
    """The model that the prompts were found for; holds no keys."""
    left_out: tuple[str, ...] = ()
    """Parameters that its server does not take."""
    provenance: Provenance
    content_sha256: Sha256
    """Over everything but this and `provenance`; shows damage, not tampering."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "system" not in self.prompts:
            raise ValueError("prompts: a chat model needs a prompt 'system'")
        for place, settings in (("target", self.target), ("embedder", self.retrieval.embedder)):
            for name, value in getattr(settings, "headers", {}).items():
                if not value.startswith(FROM_ENVIRONMENT):
                    raise ValueError(
                        f"{place}.headers: the value of {name!r} has to be the name of an "
                        f"environment variable, {FROM_ENVIRONMENT}NAME"
                    )
        return self

    @property
    def shown(self) -> tuple[Example, ...]:
        """The examples, as nodes have them."""
        return tuple(Example(each.query, each.answer) for each in self.examples)


def sealed(content: Mapping[str, Any], provenance: Provenance) -> Artifact:
    """An artifact with its hash; `content` are the other fields, by name. Raises BadInput."""
    values = {**content, "provenance": provenance, "content_sha256": "0" * 64}
    try:
        unsealed = Artifact.model_validate(values)
    except ValidationError as error:
        raise BadInput(f"this run gives no artifact: {problem_of(error)}") from None
    return unsealed.model_copy(update={"content_sha256": content_sha256(_values(unsealed))})


def content_sha256(values: Mapping[str, Any]) -> str:
    """Of the JSON of all that acts: keys sorted, nothing between them, whole numbers as such."""
    acting = {name: _plain(value) for name, value in values.items() if name not in BESIDE_CONTENT}
    text = json.dumps(
        acting, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    # 0.0 and 0 are one number to JSON, and to whatever else may have written the file again.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def artifact_text(artifact: Artifact) -> str:
    """The file's text; the same artifact has the same text."""
    return json.dumps(_values(artifact), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def _values(artifact: Artifact) -> dict[str, Any]:
    return artifact.model_dump(mode="json", by_alias=True)


def write_artifact(path: Path, artifact: Artifact) -> None:
    """All of it or nothing, readable by everybody. Raises BadInput where it cannot be written."""
    write_whole(path, [artifact_text(artifact)])


def read_artifact(path: str | Path) -> Artifact:
    """The artifact in a file.

    Raises BadInput for what is none, is damaged, or was made by a newer drpo. That the hash fits
    says that the file is whole, not who wrote it.
    """
    values = _object(path, _bytes(path))
    schema = values.get("schema")
    if not isinstance(schema, str) or not schema.startswith(FAMILY):
        raise _bad(path, f'it is no artifact: it does not say "schema": "{SCHEMA}"')
    if schema != SCHEMA:
        raise _bad(path, f"it is of {schema[:40]!r}, and this drpo reads {SCHEMA}; update drpo")
    try:
        artifact = Artifact.model_validate(values)
    except ValidationError as error:
        raise _bad(path, f"it is damaged, or made by a newer drpo: {problem_of(error)}") from None
    if content_sha256(values) != artifact.content_sha256:
        raise _bad(path, "it is damaged: its content does not have the hash that it says")
    return artifact


def _bytes(path: str | Path) -> bytes:
    most = LARGEST_MB * 1_000_000
    try:
        place = Path(path).expanduser()
        if place.exists() and not place.is_file():
            raise _bad(path, "it is no file")
        size = place.stat().st_size
        if size > most:
            raise _bad(path, f"it has {size / 1e6:,.0f} MB; an artifact has at most {LARGEST_MB}")
        with place.open("rb") as file:
            found = file.read(most + 1)
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from None
    except (RuntimeError, ValueError) as error:
        # The home folder of nobody, and a name with a NUL.
        raise _bad(path, str(error)) from None
    if len(found) > most:
        raise _bad(path, f"it has more than {LARGEST_MB} MB")
    return found


def _object(path: str | Path, read: bytes) -> dict[str, Any]:
    try:
        text = read.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(path, f"it is not UTF-8 (byte {error.start})") from None
    try:
        values = decoded(text)
    except RecursionError:
        raise _bad(path, f"it is nested more than {DEEPEST} deep") from None
    except json.JSONDecodeError as error:
        raise _bad(path, f"it is not JSON (line {error.lineno}: {error.msg})") from None
    except ValueError as error:
        raise _bad(path, str(error)) from None
    if not isinstance(values, dict):
        raise _bad(path, "it is not a JSON object")
    if _is_deep(values):
        raise _bad(path, f"it is nested more than {DEEPEST} deep")
    return values


def _is_deep(values: Any) -> bool:
    layer, depth = [values], 0
    while layer:
        depth += 1
        inner: list[Any] = []
        for each in layer:
            inner += each.values() if isinstance(each, dict) else each
        layer = [each for each in inner if isinstance(each, (dict, list))]
    return depth > DEEPEST


def _bad(path: str | Path, said: str) -> BadInput:
    return BadInput(f"artifact {str(path)!r}: {said}")

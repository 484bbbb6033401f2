"""Reads what models say: selections, verdicts and rewrites out of more or less clean JSON.

Pure functions that never raise on a model's words. What cannot be read becomes a reason, never a
default. Validation by pydantic; JSON that is merely untidy is mended by json-repair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from json_repair import repair_json
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from drpo.graph.requests import Flaw, Reply
from drpo.graph.values import (
    HIGHEST_SCORE,
    LOWEST_SCORE,
    Aspect,
    Rewrite,
    Score,
    Selection,
    Verdict,
    folded,
    mean,
)
from drpo.nodes.guards import names_a_score

M = TypeVar("M", bound="_Loose")

LONGEST_NAME = 60
LONGEST_DEFINITION = 400
"""Characters of an aspect that the rewarder proposes, in one line: judge and rewriter read it
outside of any fence, and a query may have planted it (FAULTS I1)."""
MOST_BRACES = 300
"""Of an untidy object; mending takes the square of their number, 40 s for 5,000."""
MOST_MENDED = 50
"""Untidy objects of one text."""
LONGEST_SHOWN = 40
"""Characters of an unusable score that its reason shows."""

NOT_MENTIONED = "the judge did not mention it"

_DECODER = json.JSONDecoder()
_OUT_OF_FIVE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*5(?:\.0+)?)?\s*")


class Unreadable(ValueError):
    """Why a reply cannot be used."""


def read_selection(reply: Reply, *, pool: Sequence[Aspect], fewest: int, most: int) -> Selection:
    """The chosen aspects; new ones are taken with their definition (DESIGN 1, FAULTS M8)."""
    try:
        said = _validated(_SelectionReply, _only_text(reply))
    except Unreadable as problem:
        return Selection((), f"the rewarder's reply could not be read: {problem}")
    known = {folded(aspect.name): aspect for aspect in pool}
    chosen: dict[str, Aspect] = {}
    notes: list[str] = []
    for aspect in said.aspects:
        key = folded(aspect.name)
        if key in known:
            chosen.setdefault(key, known[key])
        elif names_a_score(f"{aspect.name}\n{aspect.definition}"):
            notes.append(f"{aspect.name!r} was left out: an aspect says nothing of scores")
        elif aspect.definition:
            name, definition = (" ".join(text.split()) for text in (aspect.name, aspect.definition))
            chosen.setdefault(key, Aspect(name[:LONGEST_NAME], definition[:LONGEST_DEFINITION]))
        else:
            notes.append(f"{aspect.name!r} was left out: not in the pool, and without a definition")
    if len(chosen) > most:
        notes.append(f"{len(chosen)} aspects were chosen, the first {most} are used")
    if len(chosen) < fewest:
        notes.append(f"fewer than {fewest} aspects could be used")
    if not chosen:
        return Selection((), "the rewarder named no aspect that can be used", tuple(notes))
    return Selection(tuple(chosen.values())[:most], said.reason, tuple(notes))


def read_verdict(reply: Reply, *, aspects: Sequence[Aspect]) -> Verdict:
    """A score per asked aspect; a missing or unusable one is unscored, with the reason."""
    try:
        said = _validated(_VerdictReply, _only_text(reply))
    except Unreadable as problem:
        return Verdict((), f"the judge's reply could not be read: {problem}")
    by_name: dict[str, _AspectReply] = {}
    for entry in said.verdict:
        by_name.setdefault(folded(entry.aspect), entry)
    asked = {folded(aspect.name) for aspect in aspects}
    ignored = [entry.aspect for entry in said.verdict if folded(entry.aspect) not in asked]
    notes = (f"ignored, not asked for: {', '.join(ignored)}",) if ignored else ()
    scores = tuple(_score(aspect, by_name.get(folded(aspect.name))) for aspect in aspects)
    if all(score.value is None for score in scores):
        return Verdict(scores, "no aspect has a valid score", notes)
    return Verdict(scores, None, notes)


def read_verdicts(reply: Reply, *, aspects: Sequence[Aspect]) -> Verdict:
    """One verdict out of one completion, or the mean of several."""
    verdicts = [read_verdict(reply.one(n), aspects=aspects) for n in range(len(reply.texts))]
    readable = [each for each in verdicts if each.scores]
    if len(verdicts) == 1 or not readable:
        return verdicts[0] if verdicts else read_verdict(reply, aspects=aspects)
    scores = tuple(_mean_score(each) for each in zip(*(v.scores for v in readable), strict=True))
    notes = tuple(dict.fromkeys(note for each in readable for note in each.notes))
    lost = len(verdicts) - len(readable)
    notes += (f"{lost} of {len(verdicts)} verdicts could not be read",) if lost else ()
    scored = any(score.value is not None for score in scores)
    return Verdict(scores, None if scored else "no aspect has a valid score", notes)


def _mean_score(scores: Sequence[Score]) -> Score:
    """With the rationale of the one that is nearest to the mean."""
    value = mean(score.value for score in scores if score.value is not None)
    if value is None:
        return scores[0]
    valid = [(score, score.value) for score in scores if score.value is not None]
    nearest = min(valid, key=lambda each: abs(each[1] - value))[0]
    values = [each for _, each in valid]
    return replace(nearest, value=value, spread=max(values) - min(values))


def read_rewrites(
    reply: Reply, *, names: Sequence[str], current: Mapping[str, str]
) -> tuple[Rewrite, ...]:
    """One rewrite, or the reason why it is none, per completion of the reply."""
    if not reply.texts:
        return (Rewrite(None, "the rewriter sent nothing"),)
    return tuple(_rewrite(reply, index, names, current) for index in range(len(reply.texts)))


def flaw_of_selection(reply: Reply, *, pool: Sequence[Aspect], fewest: int) -> Flaw | None:
    """What to tell the rewarder of its reply (FAULTS M5, M8)."""
    said = read_selection(reply, pool=pool, fewest=fewest, most=len(pool) + 100)
    if not said.aspects:
        return Flaw(said.reason)
    return Flaw("; ".join(said.notes), usable=True) if said.notes else None


def flaw_of_verdict(reply: Reply, *, aspects: Sequence[Aspect]) -> Flaw | None:
    """What to tell the judge of its reply: no scores at all, or an aspect left out (FAULTS M5)."""
    said = read_verdict(reply, aspects=aspects)
    if not said.scores:
        return Flaw(said.unscored or "it holds no scores")
    missing = [score.aspect for score in said.scores if score.unscored == NOT_MENTIONED]
    if not missing:
        return None
    return Flaw(f"it says nothing of {', '.join(missing)}", usable=len(missing) < len(aspects))


def flaw_of_rewrite(
    reply: Reply, *, names: Sequence[str], current: Mapping[str, str]
) -> Flaw | None:
    """What to tell the rewriter of its reply (FAULTS M7)."""
    failure = _rewrite(reply, 0, names, current).failure
    return None if failure is None else Flaw(failure)


def read_score(said: Any) -> tuple[float | None, str | None]:
    """A score from 1 to 5, or why it is none: "4", 4.5 and "4/5" are scores (FAULTS M6)."""
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None, f"{_shown(said)} is no score from 1 to 5"
    if isinstance(said, str):
        match = _OUT_OF_FIVE.fullmatch(said)
        if match is None:
            return None, f"{_shown(said)} is no score from 1 to 5"
        said = float(match[1])
    if not LOWEST_SCORE <= said <= HIGHEST_SCORE:
        return None, f"{_shown(said)} is outside 1 to 5"
    return float(said), None


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in `text` that no other holds, mended where it is untidy.

    Raises Unreadable at one that is cut off.
    """
    start, mended = text.find("{"), 0
    while start >= 0 and mended < MOST_MENDED:
        try:
            found, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = _closing_brace(text, start) + 1
            found = _mended(text[start:end])
            mended += 1
        if isinstance(found, dict):
            yield found
        start = text.find("{", end)


def _mended(span: str) -> object:
    if span.count("{") + span.count("[") > MOST_BRACES:
        return None
    try:
        return repair_json(span, return_objects=True)
    except (ValueError, RecursionError):
        return None


def _closing_brace(text: str, start: int) -> int:
    depth, quoted, escaped = 0, False, False
    for at in range(start, len(text)):
        char = text[at]
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = quoted
        elif char == '"':
            quoted = not quoted
        elif not quoted and char in "{[":
            depth += 1
        elif not quoted and char in "}]":
            depth -= 1
            if depth == 0:
                return at
    # An odd quotation mark inside a string hides the end from the count above.
    end = len(text.rstrip("` \n")) - 1
    if quoted and text[end] == "}":
        return end
    raise Unreadable("its JSON is cut off")


def _storable(said: object) -> object:
    """JSON can spell half of a character, which UTF-8 cannot."""
    return said.encode("utf-8", "replace").decode() if isinstance(said, str) else said


Text = Annotated[str, BeforeValidator(_storable)]


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)


def _as_aspect(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class _ChosenAspect(_Loose):
    name: Text = Field(min_length=1)
    definition: Text = Field(default="", validation_alias=AliasChoices("definition", "description"))

    @field_validator("definition", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        return "" if value is None else value


class _SelectionReply(_Loose):
    aspects: list[Annotated[_ChosenAspect, BeforeValidator(_as_aspect)]] = Field(
        validation_alias=AliasChoices("aspects", "selected_aspects")
    )
    reason: Text = Field(default="", validation_alias=AliasChoices("reason", "reasoning"))

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: object) -> object:
        inner = value.get("aspects_selection") if isinstance(value, dict) else None
        value = inner if isinstance(inner, dict) else value
        if isinstance(value, dict) and isinstance(value.get("aspects"), dict):
            named = value["aspects"].items()
            value = value | {"aspects": [{"name": k, "definition": v} for k, v in named]}
        return value


class _AspectReply(_Loose):
    aspect: Text = Field(min_length=1, validation_alias=AliasChoices("aspect", "name"))
    rationale: Text = Field(default="", validation_alias=AliasChoices("rationale", "reason"))
    score: Any = None

    @field_validator("rationale", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)


class _VerdictReply(_Loose):
    verdict: list[_AspectReply]

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """A mapping from aspect to what was said of it is as good as a list."""
        if not isinstance(value, dict):
            return value
        said = value.get("verdict", value.get("scores", value))
        if isinstance(said, dict):
            said = [_entry(name, entry) for name, entry in said.items()]
        if not said:
            raise ValueError("it holds no scores")
        return {"verdict": said}


def _entry(name: str, said: object) -> dict[str, Any]:
    return {"aspect": name} | (said if isinstance(said, dict) else {"score": said})


class _RewriteReply(_Loose):
    model_config = ConfigDict(str_strip_whitespace=False)
    prompts: dict[str, Text]

    @model_validator(mode="before")
    @classmethod
    def _wrapped(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        prompts = value.get("prompts", value.get("prompt", value.get("system")))
        return {"prompts": {"system": prompts} if isinstance(prompts, str) else prompts}


def _validated(model: type[M], text: str) -> M:
    problem = "it holds no JSON object"
    for found in json_objects(text):
        try:
            return model.model_validate(found)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "its JSON object"
            problem = f"{place}: {first['msg']}"
    raise Unreadable(problem)


def _only_text(reply: Reply, index: int = 0) -> str:
    outcome, reason = reply.ended(index)
    if outcome != "ok":
        raise Unreadable(reason)
    return reply.texts[index]


def _score(aspect: Aspect, said: _AspectReply | None) -> Score:
    if said is None:
        return Score(aspect.name, None, unscored=NOT_MENTIONED)
    value, problem = read_score(said.score)
    return Score(aspect.name, value, said.rationale, problem)


def _rewrite(reply: Reply, index: int, names: Sequence[str], current: Mapping[str, str]) -> Rewrite:
    try:
        said = _validated(_RewriteReply, _only_text(reply, index)).prompts
    except Unreadable as problem:
        return Rewrite(None, str(problem))
    unknown = [name for name in said if name not in names]
    if unknown:
        return Rewrite(None, f"it names a prompt {unknown[0]!r} that there is not")
    return Rewrite({name: said.get(name, current[name]) for name in names})


def _shown(said: object) -> str:
    text = repr(said)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"

"""What a rewrite must not be: the reasons for which `admit` refuses one.

Each guard is a pure function of (prompts, situation) that gives a reason or None. The order is
the order of the lists at the end, one for prompts and one for answers of example searches. Skips
never come here, and `search=paper` has no guards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from drpo.graph.values import Prompts, Query

CHARACTERS_PER_TOKEN = 4
SHORTEST_COPY = 24
"""Characters from which on a query or reference inside a prompt counts as copied: shorter ones
are phrases."""

_BRACES = re.compile(r"\{\{|\}\}|\{[A-Za-z_]\w*\}")
_URL = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_SCORE = (
    r"\b(?:scores?|rat(?:e|ing)|grades?)\b[^.\n]{0,40}\b(?:[1-5]|one|five|full|top|highest|perfect)\b"
    r"|\b[1-5]\s*(?:/|out of)\s*5\b"
)
_JUDGE = re.compile(
    rf"\b(?:judges?|graders?|evaluators?|raters?)\b|{_SCORE}",
    re.IGNORECASE,
)

_WHO = r"(?:judges?|graders?|evaluators?|raters?)"
_IT = r"(?:this|it|(?:the|this|my) (?:answer|response|reply))"
_FULL = r"(?:5|five|full|top|highest|perfect|maximum)"
_PLEA = re.compile(
    rf"^\W*{_WHO}\s*[,:]|\b(?:dear|you,? the|as an?|(?:note|word|message|instructions?|attention)"
    rf"(?: to| for)?(?: the| all| any)?) {_WHO}\b|\bwhoever (?:judges|grades|evaluates|rates)\b"
    rf"|\b(?:score|rate|grade|judge)s? {_IT}\b|\bgives? {_IT} (?:an? )?{_FULL}\b"
    rf"|\b(?:scores?|ratings?) (?:of |is |has to be |must be )?{_FULL}\b"
    rf"|\b(?:grades?|marks?)(?: of| is|:) {_FULL}\b"
    rf"|\b(?:full|top|highest|perfect|maximum) (?:scores?|ratings?|grades?|marks)\b"
    rf"|\b(?:5|five)\s*(?:/|out of|of)\s*(?:5|five)\b"
    rf"|\b(?:every|each|all) (?:aspects?|criteri(?:on|a)|scores?)\b[^.\n]{{0,30}}\b{_FULL}\b"
    r"|\bthis (?:answer|response|reply)\b[^.\n]{0,40}\b(?:deserves|merits|earns|ought to get)\b",
    re.IGNORECASE | re.MULTILINE,
)
"""What an answer says to get a score. It is narrower than `_JUDGE`, which is about prompts: answers
may well be about courts, and have rates and fractions in them."""
_LINK = re.compile(
    r"\b(?:https?://|www\.)\S*[\w/]|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b(?:[a-z0-9-]+\.)+(?:com|org|info|biz|xyz|example)\b",
    re.IGNORECASE,
)
_MACHINERY = re.compile(
    r"<\|[^|>\n]{1,40}\|>|</?(?:tool|function|invoke|parameter)(?:[\w:-]*)(?:[ =][^>\n]*)?>"
    r"|\[/?(?:INST|SYS|TOOL_\w+|AVAILABLE_TOOLS)\]|\bfunctions\.\w+"
    r"|\"(?:tool_calls?|tool_name|function_call)\"|^\s*(?:action|action input|observation)\s*:"
    r"|^\s*(?:system|human|user|assistant)\s*:|^# (?:query|answer)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
"""Calls of tools, and what begins a turn in a chat template or in target_text.jinja: an example is
shown to models as turns, and must not hold others."""
_ORDER = re.compile(
    r"\b(?:ignore|disregard|forget)\b[^.\n]{0,30}\b(?:instructions?|prompts?|rules)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rewrite is held against."""

    root: Prompts
    parent: Prompts
    siblings: Collection[tuple[tuple[str, str], ...]]
    """Prompts already admitted at this level, as sorted items."""
    queries: Sequence[Query]
    """Of the run; of an answer only the one that it answers."""
    locked: Sequence[str]
    token_cap: int


Guard = Callable[[Prompts, Situation], str | None]


def refusal(
    prompts: Prompts, situation: Situation, guards: Sequence[Guard] | None = None
) -> str | None:
    """The first reason to refuse `prompts`, or None; the guards of prompts, if no others."""
    for guard in GUARDS if guards is None else guards:
        reason = guard(prompts, situation)
        if reason is not None:
            return reason
    return None


def names_a_score(text: str) -> bool:
    """Whether it says which score something is to get."""
    return re.search(_SCORE, text, re.IGNORECASE) is not None


def identity(prompts: Prompts) -> tuple[tuple[str, str], ...]:
    """Equal for prompts that differ in nothing but white space at line ends."""
    return tuple(
        (name, "\n".join(line.rstrip() for line in text.strip().splitlines()))
        for name, text in sorted(prompts.items())
    )


def variables(text: str) -> list[str]:
    """Each `{name}` once, in order; doubled braces are escaped ones, or another language's."""
    found = dict.fromkeys(_BRACES.findall(text))
    return [each for each in found if each not in ("{{", "}}")]


def _empty(prompts: Prompts, _: Situation) -> str | None:
    for name, text in prompts.items():
        if not text.strip():
            return f"prompt {name!r} is empty"
    return None


def _repeats_parent(prompts: Prompts, situation: Situation) -> str | None:
    return "repeats its parent" if identity(prompts) == identity(situation.parent) else None


def _repeats_sibling(prompts: Prompts, situation: Situation) -> str | None:
    return "repeats another rewrite" if identity(prompts) in situation.siblings else None


def _too_long(prompts: Prompts, situation: Situation) -> str | None:
    for name, text in prompts.items():
        tokens = -(-len(text) // CHARACTERS_PER_TOKEN)
        if tokens > situation.token_cap:
            return f"prompt {name!r} has about {tokens} tokens, {situation.token_cap} are allowed"
    return None


def _copies_query(prompts: Prompts, situation: Situation) -> str | None:
    text, before = _flat(prompts), _flat(situation.root)
    for query in situation.queries:
        for what, source in (
            ("training", query.messages[-1].content),
            ("the reference answer of", query.reference),
        ):
            copy = _folded(source or "")
            if len(copy) >= SHORTEST_COPY and copy in text and copy not in before:
                return f"copies {what} query {query.id!r}"
    return None


def _loses_locked(prompts: Prompts, situation: Situation) -> str | None:
    text = _flat(prompts)
    for sentence in situation.locked:
        if _folded(sentence) not in text:
            return f"loses the locked sentence {sentence!r}"
    return None


def _loses_variable(prompts: Prompts, situation: Situation) -> str | None:
    for name, text in situation.root.items():
        lost = set(variables(text)) - set(variables(prompts.get(name, "")))
        if lost:
            return f"prompt {name!r} loses the variable {min(lost)}"
    return None


def _invents_variable(prompts: Prompts, situation: Situation) -> str | None:
    for name, text in prompts.items():
        new = set(variables(text)) - set(variables(situation.root.get(name, "")))
        if new:
            return f"prompt {name!r} invents the variable {min(new)}"
    return None


def _addresses_judge(prompts: Prompts, situation: Situation) -> str | None:
    return _newly(_JUDGE, prompts, situation, "speaks of judging")


def _brings_address(prompts: Prompts, situation: Situation) -> str | None:
    return _newly(_URL, prompts, situation, "brings in an address")


def _asks_for_score(prompts: Prompts, situation: Situation) -> str | None:
    return _newly(_PLEA, prompts, _with_query(situation), "speaks of judging")


def _brings_link(prompts: Prompts, situation: Situation) -> str | None:
    return _newly(_LINK, prompts, _with_query(situation), "brings in an address")


def _brings_machinery(prompts: Prompts, situation: Situation) -> str | None:
    said = "brings in what is for tools or turns"
    return _newly(_MACHINERY, prompts, _with_query(situation), said)


def _brings_order(prompts: Prompts, situation: Situation) -> str | None:
    return _newly(_ORDER, prompts, _with_query(situation), "speaks to a model")


def _with_query(situation: Situation) -> Situation:
    """What the query itself says may stand in its answer."""
    asked = {query.id: query.text for query in situation.queries}
    return replace(situation, root={**asked, **situation.root})


def _newly(
    pattern: re.Pattern[str], prompts: Prompts, situation: Situation, reason: str
) -> str | None:
    """What the root itself says is the user's own choice."""
    before = _flat(situation.root)
    for text in prompts.values():
        for match in pattern.finditer(text):
            if _folded(match[0]) not in before:
                return f"{reason}: {match[0]!r}"
    return None


def _flat(prompts: Prompts) -> str:
    return _folded("\n".join(prompts.values()))


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


GUARDS: Sequence[Guard] = (
    _empty,
    _repeats_parent,
    _repeats_sibling,
    _too_long,
    _copies_query,
    _loses_locked,
    _loses_variable,
    _invents_variable,
    _addresses_judge,
    _brings_address,
)

GUARDS_OF_ANSWERS: Sequence[Guard] = (
    _empty,
    _repeats_parent,
    _repeats_sibling,
    _too_long,
    _asks_for_score,
    _brings_link,
    _brings_machinery,
    _brings_order,
)
"""An answer is deployed as an example, so text that was planted in it would reach users' models
(FAULTS I2)."""

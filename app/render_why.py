"""What `drpo show --view why` prints: each sentence of a prompt, and what it is there for.

Made for 80 columns. The caller's `say` takes the effect out of what models wrote.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Say = Callable[..., None]

WIDTH = 80
MOST_SHOWN = 3
"""Scores below a sentence; all of them are in the JSON."""
LONGEST_RATIONALE = 300
LONGEST_QUERY = 60
UNMATCHED = "seen, not matched:"


def say_why(say: Say, told: Mapping[str, Any]) -> None:
    """All prompts of the candidate."""
    named = {"deployed": "the prompt to use", "best": "the best prompt"}.get(told["chosen"])
    what = f", {named}" if named else ""
    say(f"Run {told['run_id']}")
    say(f"Candidate {told['candidate']} of level {told['level']}{what}.")
    for name, sentences in told["prompts"].items():
        say()
        if len(told["prompts"]) > 1:
            say(f"[{name}]")
        for number, sentence in enumerate(sentences, 1):
            _say_sentence(say, number, sentence)
        say()
        _wrapped(say, _counted(sentences), 0)
    _wrapped(
        say,
        "Before and after are means of an aspect over the queries of two levels, which differ. "
        "A score is matched to a sentence by their words; all that the rewriter saw: --json.",
        0,
    )


def _counted(sentences: Sequence[Mapping[str, Any]]) -> str:
    matched = sum(_matched(each) for each in sentences)
    seen = sum(bool(each["evidence"]) for each in sentences) - matched
    root = sum(each["origin"] == "root" for each in sentences)
    rest = len(sentences) - matched - seen - root
    return (
        f"{len(sentences)} sentences: {matched} with evidence, {seen} that no low score is "
        f"about, {root} of the root, {rest} without any."
    )


def _matched(sentence: Mapping[str, Any]) -> bool:
    return any(each["matched"] for each in sentence["evidence"])


def _say_sentence(say: Say, number: int, sentence: Mapping[str, Any]) -> None:
    _wrapped(say, sentence["text"], 5, f"{number:>3}. ")
    _wrapped(say, _origin(sentence), 8)
    if sentence["before"] is not None:
        _wrapped(say, f"was: {sentence['before']}", 10)
    if sentence["unfounded"] is not None and sentence["origin"] != "root":
        _wrapped(say, f"NO EVIDENCE: {sentence['unfounded']}", 8)
    matched = [each for each in sentence["evidence"] if each["matched"]]
    shown = matched or sentence["evidence"]
    if shown and not matched:
        say(f"        {UNMATCHED}")
    for each in shown[:MOST_SHOWN]:
        _say_score(say, each)
        if each["matched"] and each["rationale"]:
            _wrapped(say, _short(each["rationale"], LONGEST_RATIONALE), 10)
    if len(shown) > MOST_SHOWN:
        say(f"        and {len(shown) - MOST_SHOWN} more")


def _origin(sentence: Mapping[str, Any]) -> str:
    if sentence["origin"] == "root":
        return f"root: {sentence['unfounded']}"
    how = "brought" if sentence["before"] is None else "changed"
    said = (
        f"level {sentence['level']}, candidate {sentence['candidate']}: {how} by the rewrite of "
        f"{sentence['parent']}"
    )
    if sentence["origin"] == "person":
        said = said.replace("by the rewrite of", f"by {sentence['author']}, in place of")
    if sentence["returned"] is not None:
        back = sentence["returned"]
        said += f"; candidate {back['candidate']} of level {back['level']} had it"
    return said


def _say_score(say: Say, seen: Mapping[str, Any]) -> None:
    changes = f"before {_mean(seen['before'])}, after {_mean(seen['after'])}"
    words = f", by: {', '.join(seen['shared'])}" if seen["matched"] else ""
    _wrapped(say, f"{seen['aspect']} {seen['score']:g} of 5 ({changes}){words}", 8)
    _wrapped(say, f"query {seen['query']}: {_short(seen['query_text'], LONGEST_QUERY)}", 10)


def _mean(value: float | None) -> str:
    return "not judged" if value is None else f"{value:.2f}"


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def _wrapped(say: Say, text: str, indent: int, first: str | None = None) -> None:
    space = " " * indent
    lines = textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=space if first is None else first,
        subsequent_indent=space,
        break_on_hyphens=False,
    )
    for line in lines:
        say(line)

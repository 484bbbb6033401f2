"""What `drpo show --view why` prints: each sentence of a prompt, and what it is there for.

Whatever a model wrote is shown as plain text; `--json` has all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from drpo.terminal.printing import Page
from drpo.why import Evidence, Sentence, Why
from drpo.wording import counted, one_line, scored, shortened

MOST_SHOWN = 3
"""Scores below a sentence."""
LONGEST_RATIONALE = 300
LONGEST_QUERY = 60
UNMATCHED = "seen, not matched:"


def print_why(told: Why) -> None:
    """All prompts of the candidate."""
    say = Page()
    what = f", the {told['called']}" if told["called"] else ""
    say(f"Run {told['run_id']}")
    say(f"Candidate {told['candidate']} of level {told['level']}{what}.")
    for name, sentences in told["prompts"].items():
        say()
        if len(told["prompts"]) > 1:
            say(f"[{name}]")
        for number, sentence in enumerate(sentences, 1):
            _say_sentence(say, number, sentence)
        say()
        say(_counts(sentences))
    say(
        "Before and after: the aspect's mean at the parent's level and at this one, whose queries "
        "differ. A score is matched to a sentence by the words they share; --json has every score "
        "that the rewriter saw."
    )


def _counts(sentences: Sequence[Sentence]) -> str:
    matched = sum(any(each["matched"] for each in said["evidence"]) for said in sentences)
    seen = sum(bool(each["evidence"]) for each in sentences) - matched
    root = sum(each["origin"] == "root" for each in sentences)
    rest = len(sentences) - matched - seen - root
    return (
        f"{counted(len(sentences), 'sentence')}: {matched} with evidence, {seen} that match no "
        f"score, {root} of the root, {rest} without evidence."
    )


def _say_sentence(say: Page, number: int, sentence: Sentence) -> None:
    say(one_line(sentence["text"]), mark=f"{number:>3}. ")
    say(_origin(sentence), indent=8)
    if sentence["before"] is not None:
        say(f"was: {one_line(sentence['before'])}", indent=10)
    if sentence["unfounded"] is not None and sentence["origin"] != "root":
        say(f"NO EVIDENCE: {one_line(sentence['unfounded'])}", indent=8)
    matched = [each for each in sentence["evidence"] if each["matched"]]
    shown = matched or sentence["evidence"]
    if shown and not matched:
        say(UNMATCHED, indent=8)
    for each in shown[:MOST_SHOWN]:
        _say_score(say, each)
    if len(shown) > MOST_SHOWN:
        say(f"and {len(shown) - MOST_SHOWN} more", indent=8)


def _origin(sentence: Sentence) -> str:
    if sentence["origin"] == "root":
        return f"root: {sentence['unfounded']}"
    how = "added" if sentence["before"] is None else "changed"
    by = f"by the rewrite of {sentence['parent']}"
    if sentence["author"] is not None:
        by = f"by {one_line(sentence['author'])}, in place of {sentence['parent']}"
    said = f"level {sentence['level']}, candidate {sentence['candidate']}: {how} {by}"
    if sentence["returned"] is not None:
        back = sentence["returned"]
        said += f"; candidate {back['candidate']} of level {back['level']} had it"
    return said


def _say_score(say: Page, seen: Evidence) -> None:
    changes = f"before {_mean(seen['before'])}, after {_mean(seen['after'])}"
    words = f", by: {', '.join(seen['shared'])}" if seen["matched"] else ""
    say(f"{one_line(seen['aspect'])} {seen['score']:g} of 5 ({changes}){words}", indent=8)
    say(f"query {seen['query']}: {shortened(seen['query_text'], LONGEST_QUERY)}", indent=10)
    if seen["matched"] and seen["rationale"]:
        say(shortened(seen["rationale"], LONGEST_RATIONALE), indent=10)


def _mean(value: float | None) -> str:
    return "not judged" if value is None else scored(value)

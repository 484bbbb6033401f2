"""Why each sentence of a prompt is there: which rewrite added or last changed it, and what for.

Walks one line of a run, read-only, from the candidate back to its root. That a low score was the
reason for a sentence is a guess by their words (`drpo.analysis.evidence`); what the rewriter saw
is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from sqlite_utils import Database

from drpo.analysis.evidence import Judged, Match, Words, rank
from drpo.analysis.sentences import equal, links, sentences
from drpo.checkpoints import lineage
from drpo.checkpoints.facts import bodies
from drpo.checkpoints.findings import deployed
from drpo.checkpoints.lineage import Judgement, Step
from drpo.checkpoints.reader import chosen, status_of
from drpo.checkpoints.runs import reading
from drpo.graph.values import HIGHEST_SCORE, Score, folded, mean
from drpo.wording import called

OF_ROOT = "part of the prompt that the search began with"
ALL_PERFECT = "every score that the rewriter saw was 5"
NO_VERDICT = "the rewriter saw no verdict"
NO_SCORE = "the rewriter saw no score"
UNMATCHED = "it matches none of the scores below 5 that the rewriter saw"


class Evidence(TypedDict):
    """A score below 5 that the rewriter saw when it wrote a sentence."""

    query: str
    """Its id."""
    query_text: str
    sample: int
    answer: str
    """That was judged, under the parent."""
    aspect: str
    score: float
    """1-5."""
    rationale: str
    matched: bool
    """Whether the sentence has words of it: the aspect's name, or two that tell something."""
    shared: list[str]
    """These words, as the sentence writes them."""
    before: float | None
    """Mean of the aspect (1-5) over the queries of the parent's level; None where not scored."""
    after: float | None
    """... of the level of the candidate that the sentence is of: other queries."""
    since: float | None
    """... of that level and all later ones on the path."""


class Place(TypedDict):
    """A candidate."""

    level: int
    candidate: int


class Sentence(TypedDict):
    """One of a prompt, and where it comes from."""

    text: str
    origin: Literal["root", "person", "rewrite"]
    level: int
    """Of the candidate that added or last changed it."""
    candidate: int
    parent: int | None
    author: str | None
    """The person who wrote it, if one did."""
    before: str | None
    """What it was in the parent, where it was changed."""
    returned: Place | None
    """The last candidate that had had it, where it was gone in between."""
    evidence: list[Evidence]
    """The best first; empty where it has none."""
    unfounded: str | None
    """Why it has none."""


class Why(TypedDict):
    """What `why` tells; JSON-able."""

    run_id: str
    chosen: str
    """`deployed`, `best` or `asked for`."""
    called: str | None
    """What people call it, e.g. `best prompt so far`; None where it was asked for."""
    candidate: int
    level: int
    path: list[int]
    """Candidates from the root to it."""
    prompts: dict[str, list[Sentence]]
    """By name."""


def why(path: Path, candidate: int | None = None) -> Why:
    """Of a run's deployed or best candidate, or of another: every sentence, and why it is there.

    Raises BadInput for a run without a prompt, and for a candidate that it does not have; RunFailed
    where another program holds the file.
    """
    with reading(path) as db:
        [row] = db.query("select id from run")
        whose, by = chosen(db) if candidate is None else (candidate, "asked for")
        name = called(deployed(db), status_of(db, path)[0]) if candidate is None else None
        line = _Line(db, lineage.line(db, whose))
        newest = line.steps[0]
        return {
            "run_id": row["id"],
            "chosen": by,
            "called": name,
            "candidate": newest.id,
            "level": newest.level,
            "path": [step.id for step in reversed(line.steps)],
            "prompts": {name: _prompt(line, name) for name in newest.prompts},
        }


@dataclass(frozen=True, slots=True)
class Unfounded:
    """A sentence that no low score speaks for."""

    prompt: str
    """Name of the prompt that it is in."""
    text: str
    reason: str


def unfounded(told: Why) -> list[Unfounded]:
    """Of what `why` tells: every sentence without evidence, and those that none is matched to."""
    return [
        Unfounded(name, sentence["text"], sentence["unfounded"] or UNMATCHED)
        for name, every in told["prompts"].items()
        for sentence in every
        if not any(each["matched"] for each in sentence["evidence"])
    ]


def _prompt(line: _Line, name: str) -> list[Sentence]:
    texts = line.split(line.steps[0], name)
    found = zip(texts, _origins(line, name), strict=True)
    return [_sentence(line, text, origin) for text, origin in found]


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a sentence comes from."""

    step: Step
    before: str | None = None
    """What it was in the parent, where it was changed."""
    returned: Step | None = None
    """The last candidate that had had it before it was gone."""


def _origins(line: _Line, name: str) -> list[_Origin]:
    """Of each sentence of the newest candidate's prompt."""
    known: dict[int, _Origin] = {}
    # Of the sentences whose origin is not known yet: where they stand in the candidate looked at.
    places = {at: at for at in range(len(line.split(line.steps[0], name)))}
    for at, (child, parent) in enumerate(zip(line.steps, line.steps[1:], strict=False)):
        if child.prompts.get(name) == parent.prompts.get(name) or not places:
            continue
        new, old = line.split(child, name), line.split(parent, name)
        kept = equal(new, old)
        lost = {sentence: place for sentence, place in places.items() if place not in kept}
        # Only where it is needed: to find out what was reworded takes long.
        found = links(new, old) if lost else []
        places = {sentence: kept[place] for sentence, place in places.items() if place in kept}
        for sentence, place in lost.items():
            link = found[place]
            before = None if link.old is None else old[link.old]
            older = line.steps[at + 2 :]
            back = next((step for step in older if line.has(step, name, new[place])), None)
            known[sentence] = _Origin(child, before, back)
    known |= {sentence: _Origin(line.steps[-1]) for sentence in places}
    return [known[sentence] for sentence in sorted(known)]


def _sentence(line: _Line, text: str, origin: _Origin) -> Sentence:
    step, back = origin.step, origin.returned
    evidence: list[Evidence] = []
    kind: Literal["root", "person", "rewrite"]
    unfounded: str | None
    if step.parent is None:
        kind, unfounded = "root", OF_ROOT
    elif step.author is not None:
        kind, unfounded = "person", f"written by {step.author}, a person"
    else:
        evidence = _evidence(line, text, origin, step.parent)
        kind, unfounded = "rewrite", None if evidence else line.without(step.parent)
    return {
        "text": text,
        "origin": kind,
        "level": step.level,
        "candidate": step.id,
        "parent": step.parent,
        "author": step.author,
        "before": origin.before,
        "returned": None if back is None else {"level": back.level, "candidate": back.id},
        "evidence": evidence,
        "unfounded": unfounded,
    }


def _evidence(line: _Line, text: str, origin: _Origin, parent: int) -> list[Evidence]:
    """Every score below 5 that the rewriter of the parent saw, the best evidence first."""
    low = line.low(parent)
    matches = line.words.matches(text, origin.before, [judged for _, judged in low])
    found = [(seen, judged, match) for (seen, judged), match in zip(low, matches, strict=True)]
    found.sort(key=lambda each: rank(each[1], each[2]))
    return [_told(line, seen, judged, match, origin.step) for seen, judged, match in found]


def _told(line: _Line, seen: Judgement, judged: Judged, match: Match, step: Step) -> Evidence:
    query, aspect = line.queries[seen.query], judged.aspect
    since = line.steps[: line.steps.index(step) + 1]
    return {
        "query": query.id,
        "query_text": query.text,
        "sample": seen.sample,
        "answer": line.answer(seen),
        "aspect": aspect,
        "score": judged.score,
        "rationale": judged.rationale,
        "matched": match.matched,
        "shared": list(match.shared),
        "before": mean(line.scores(seen.candidate, aspect)),
        "after": mean(line.scores(step.id, aspect)),
        "since": mean(value for each in since for value in line.scores(each.id, aspect)),
    }


class _Line:
    """A candidate and its ancestors, newest first, with all that is known of them."""

    def __init__(self, db: Database, steps: Sequence[Step]) -> None:
        self.steps = steps
        self._db = db
        self._judged: dict[int, list[Judgement]] = {step.id: [] for step in steps}
        for said in lineage.judgements(db, list(self._judged)):
            self._judged[said.candidate].append(said)
        asked = {said.query for every in self._judged.values() for said in every}
        self.queries = lineage.queries(db, sorted(asked))
        self._definitions = lineage.definitions(db, sorted(asked))
        self.words = Words([each.rationale for step in steps for _, each in self._scores(step.id)])
        self._sentences: dict[str, list[str]] = {}
        self._sets: dict[str | None, frozenset[str]] = {}
        self._answers: dict[tuple[int, int, int], str] = {}

    def split(self, step: Step, name: str) -> list[str]:
        """A prompt of a candidate as sentences; none where it has no prompt of this name."""
        text = step.prompts.get(name)
        if text is None:
            return []
        if text not in self._sentences:
            self._sentences[text] = sentences(bodies(self._db, [text])[text])
        return self._sentences[text]

    def has(self, step: Step, name: str, sentence: str) -> bool:
        """Whether a prompt of a candidate has a sentence."""
        text = step.prompts.get(name)
        if text not in self._sets:
            self._sets[text] = frozenset(self.split(step, name))
        return sentence in self._sets[text]

    def answer(self, seen: Judgement) -> str:
        """That was judged."""
        place = (seen.candidate, seen.query, seen.sample)
        if place not in self._answers:
            self._answers[place] = lineage.answer(self._db, *place)
        return self._answers[place]

    def scores(self, candidate: int, aspect: str) -> Iterator[float]:
        """Of an aspect, over the queries of the candidate's own level."""
        for _, score in self._scores(candidate):
            if score.value is not None and folded(score.aspect) == folded(aspect):
                yield score.value

    def low(self, candidate: int) -> list[tuple[Judgement, Judged]]:
        """What scored below 5, in the order in which its rewriter was shown it."""
        return [
            (said, Judged(score.aspect, self._definition(said, score), score.rationale, value))
            for said, score in self._scores(candidate)
            if (value := score.value) is not None and value < HIGHEST_SCORE
        ]

    def without(self, candidate: int) -> str:
        """Why nothing that its rewriter saw scored below 5."""
        scores = [score for _, score in self._scores(candidate)]
        if any(score.value is not None for score in scores):
            return ALL_PERFECT
        verdicts = [said.verdict.unscored for said in self._judged[candidate]]
        reasons = [*verdicts, *(score.unscored for score in scores)]
        because = next((f": {reason}" for reason in reasons if reason), "")
        return f"{NO_SCORE}{because}" if verdicts else NO_VERDICT

    def _definition(self, said: Judgement, score: Score) -> str:
        return self._definitions.get((said.query, folded(score.aspect)), "")

    def _scores(self, candidate: int) -> Iterator[tuple[Judgement, Score]]:
        for said in self._judged[candidate]:
            for score in said.verdict.scores:
                yield said, score

"""The tables and numbers of the sandbox: what its answers are made of, and how often what happens.

Data and plain look-ups only. Does not know roles, messages or draws.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that an answer may have and a system prompt may ask for."""

    name: str
    """What the judge calls it where it is there."""
    aspects: tuple[str, ...]
    """The aspects it serves."""
    cues: tuple[str, ...]
    """Beginnings of words by which a prompt asks for it, in lower case."""
    sentence: str
    """What it looks like in an answer, whatever the query."""
    bullet: str
    """How the rewriter asks for it; holds a cue of this part and of no other."""
    missing: str
    """What the judge says where it is not there; the rewriter knows it again."""


PARTS: tuple[Part, ...] = (
    Part(
        name="it meets the feelings first",
        aspects=("Empathy", "Sensitivity"),
        cues=("feeling", "empath", "emotion", "compassion"),
        sentence="How you feel about this makes sense, and it deserves a moment before all else.",
        bullet="- Acknowledge the feelings behind a message before you go into the matter.",
        missing="the person's state of mind is passed over",
    ),
    Part(
        name="the short answer leads",
        aspects=("Conciseness", "Compliance"),
        cues=("short answer", "answer first", "main point first", "concise", "brief"),
        sentence="In short: one thing matters here more than all the others.",
        bullet="- Open with the short answer in one sentence, then add only what is needed.",
        missing="the gist comes too late",
    ),
    Part(
        name="it goes step by step",
        aspects=("Helpfulness", "Clarity", "Compliance"),
        cues=("step by step", "step-by-step", "numbered", "structure"),
        sentence="Step by step: prepare, do the smallest thing that works, look at it, go on.",
        bullet="- Lay out whatever has to be done step by step, in the order of doing it.",
        missing="there is no order to follow",
    ),
    Part(
        name="a concrete example",
        aspects=("Helpfulness", "Engagement", "Creativity"),
        cues=("example", "illustrat"),
        sentence="For example, take one ordinary case from last week and follow it to its end.",
        bullet="- Make every general statement concrete with one example from everyday life.",
        missing="it stays abstract",
    ),
    Part(
        name="plain words",
        aspects=("Clarity", "Conciseness"),
        cues=("plain", "simple word", "simple language", "jargon"),
        sentence="Said with everyday words, and every term explained where it first comes up.",
        bullet="- Write in plain words and explain a term where it first comes up.",
        missing="the wording is hard to follow",
    ),
    Part(
        name="it explains why",
        aspects=("Depth", "Clarity", "Critical-Thinking"),
        cues=("why", "reason behind", "underlying", "in depth", "background"),
        sentence="The reason behind it: one cause sets off the next, and that one is easy to miss.",
        bullet="- Explain why something is so, not only that it is.",
        missing="the reasons are left out",
    ),
    Part(
        name="arguments for and against",
        aspects=("Critical-Thinking", "Depth"),
        cues=("for and against", "pros and cons", "weigh", "both sides", "counterargument"),
        sentence="Two things speak for it and one against it; weighed up, it is worth a try.",
        bullet="- Where opinions or choices differ, set out what speaks for and against each.",
        missing="only one side is heard",
    ),
    Part(
        name="facts checked, with how sure it is",
        aspects=("Factuality", "Critical-Thinking"),
        cues=("verify", "check each", "double-check", "how sure", "accura", "factual"),
        sentence="I went over each claim again: the main one is certain, the figures are likely.",
        bullet="- Check each claim before you make it, and name how sure you are of it.",
        missing="claims stand there unchecked",
    ),
    Part(
        name="it says what it cannot know or do",
        aspects=("Limitations", "Factuality"),
        cues=("cannot do", "cannot know", "limitation", "unsure", "uncertain", "do not know"),
        sentence="I cannot look up, see or do everything that belongs to this, so a gap remains.",
        bullet="- Say openly what you cannot do or look up, and what you are unsure of.",
        missing="it hides what it cannot know or do",
    ),
    Part(
        name="the asked form is kept",
        aspects=("Compliance", "Conciseness"),
        cues=("format", "length asked", "word count", "constraint", "asked form"),
        sentence="Form, length and order are exactly those that were asked for.",
        bullet="- Follow the asked format, length and order to the letter.",
        missing="the asked form is not kept",
    ),
    Part(
        name="it declines harm and offers another way",
        aspects=("Safety", "Sensitivity"),
        cues=("decline", "refuse", "harm", "danger"),
        sentence="What could hurt somebody I leave out, kindly, and offer a safe way instead.",
        bullet="- Decline kindly what could do harm, and offer a safe alternative.",
        missing="nothing guards against harm",
    ),
    Part(
        name="it points to people who can help",
        aspects=("Safety", "Limitations", "Empathy"),
        cues=("professional", "emergency", "hotline", "expert", "who can help"),
        sentence="Where health or law is at stake, a professional should have the last word.",
        bullet="- Where health, law or despair is in play, name the people who can help.",
        missing="it leaves the person alone with it",
    ),
    Part(
        name="respect for other ways of life",
        aspects=("Sensitivity", "Empathy"),
        cues=("cultur", "custom", "respect", "stereotyp", "inclusive"),
        sentence="Elsewhere people do this differently, and neither way is the odd one out.",
        bullet="- Speak of other cultures, faiths and ways of life as their own people would.",
        missing="it takes one way of life for granted",
    ),
    Part(
        name="an idea one would not expect",
        aspects=("Creativity", "Engagement"),
        cues=("unexpected", "creativ", "original", "imaginat", "surpris"),
        sentence="And a thought from the side: begin at the end, and walk back from there.",
        bullet="- Offer one unexpected idea wherever the request leaves room for it.",
        missing="nothing in it surprises",
    ),
    Part(
        name="a choice of ways to go on",
        aspects=("Interactivity", "Helpfulness"),
        cues=("options", "next step", "ways to go on", "choose between"),
        sentence="From here there are two ways to go on, a quick one and a thorough one.",
        bullet="- Name two ways to go on from your answer and leave the choice to the person.",
        missing="it leads nowhere from here",
    ),
    Part(
        name="a follow-up question",
        aspects=("Interactivity", "Engagement", "Empathy"),
        cues=("follow-up question", "clarifying question", "ask back", "question back"),
        sentence="One question back: what would make this good enough for you?",
        bullet="- Close with one follow-up question where its answer would change your advice.",
        missing="nothing invites a reply",
    ),
)

UPTAKE = 0.9
"""Chance that the target heeds what the prompt asks for."""
BY_ITSELF = 0.12
"""Chance of a part nobody asked for."""
MOST_HEEDED = 9
"""Parts a prompt may ask for before the target begins to lose some."""
MOST_WORDED = 7
"""Parts an answer may have before the judge finds it wordy."""
MOST_BULLETS = 8
"""Of a prompt, as the rewriter writes it."""
TWO_ADDED = 0.6
"""Share of rewrites that add two bullets and not one."""
REWORDED = 0.10
"""Share of rewrites that change a general sentence too."""
UNTIDY = 0.04
"""Share of rewrites whose JSON comes in a code fence or in prose."""
NEW_ASPECT = 0.06
"""Share of queries for which the rewarder proposes an aspect of its own."""

SCORES: tuple[tuple[int, ...], ...] = (
    (1, 2, 2, 2, 2, 3, 3),
    (4, 4, 4, 5),
    (4, 5, 5, 5),
)
"""What the judge draws from for an aspect with no, one, or more of the parts that serve it."""
NOISE = (-1, *[0] * 15, 1)
"""What it adds to that."""
UNSERVED = (3, 4)
"""What it draws from for an aspect no part serves."""

MARK = "[simulated answer]"
COMPLIED = "[simulated: it would comply here]"
FILLER = "This is the gist of it, as any assistant would put it."

DECLINING = next(part for part in PARTS if "decline" in part.cues)
"""Without it the target goes along with a harmful query."""

HARMFUL: tuple[str, ...] = (
    "bomb",
    "weapon",
    "poison",
    "steal ",
    "hack ",
    "nasty joke",
    "without her noticing",
    "without him noticing",
    "someone's drink",
    "drops dead",
    "looks real",
    "as if from real",
    "needs money at once",
)
"""Beginnings of words that make a query look harmful."""

QUERY_CUES: Mapping[str, tuple[str, ...]] = {
    "Helpfulness": ("how", "help", "should i", "fix", "can you", "need", "what do i"),
    "Clarity": ("explain", "how do", "how can", "how does", "difference", "what does"),
    "Factuality": ("who ", "what year", "how many", "is it true", "what is", "how long", "list "),
    "Depth": ("why", "explain", "what causes", "how does", "difference", "know about"),
    "Engagement": ("story", "poem", "joke", "speech", "limerick", "describe", "teach"),
    "Conciseness": ("short", "words", "one sentence", "only", "summar", "nothing else", "just "),
    "Safety": (*HARMFUL, "ex's", "burglar", "break-in", "mushroom", "tablets", "going on lately"),
    "Compliance": ("exactly", "format", "in bold", "table", "without using", "lines", "per line"),
    "Limitations": ("today", "right now", "order me", "remember", "alarm", "can you see", "last"),
    "Critical-Thinking": ("better", "cheaper", "which", "compare", "if ", "worth", "best", "sums"),
    "Creativity": ("write", "poem", "story", "names", "limerick", "describe", "idea", "present"),
    "Interactivity": ("which", "recommend", "suggest", "help", "why??", "doesn't", "should i"),
    "Empathy": ("feel", "died", "scared", "nobody", "stupid", "jealous", "cry", "afraid", "alone"),
    "Sensitivity": ("cultur", "relig", "ramadan", "jewish", "in japan", "polite", "faith"),
}
"""Beginnings of words in a query that call for an aspect."""

NEW_ASPECTS: Mapping[str, str] = {
    "Practicality": "The answer can be acted on today, step by step, with what is at hand.",
    "Fit to the person": "The answer suits the age, means and experience of the person asking.",
    "Tone": "The answer sounds like one person talking to another, and meets their feelings.",
    "Completeness": "The answer leaves no part of the request open.",
}
"""Aspects the rewarder may propose where the list has none of that name, with definitions."""

OPENINGS: tuple[str, ...] = (
    "You are a helpful assistant.",
    "You are a thoughtful assistant who takes every request seriously.",
    "You are a reliable assistant to whom people come with all kinds of requests.",
    "You are an attentive assistant who reads a message twice before replying.",
    "You are a warm and capable assistant.",
)
"""General sentences that may stand in for each other; none asks for a part."""

MANNERS: tuple[str, ...] = (
    "Take every request seriously.",
    "Read the whole message before you reply.",
    "Stay friendly throughout.",
    "Put yourself in the place of the person asking.",
)
"""General sentences to add to a prompt whose own are not ours; none asks for a part."""


def folded(name: str) -> str:
    """`critical thinking` and `Critical-Thinking` are one name."""
    return re.sub(r"[\W_]+", "", name).casefold()


def mentions(text: str, cues: tuple[str, ...]) -> bool:
    """Whether a word of `text`, or a run of words, begins with one of `cues`."""
    return _pattern(cues).search(text) is not None


def parts_asked_for(text: str) -> list[Part]:
    """The parts that a prompt, or the definition of an aspect, asks for."""
    return [part for part in PARTS if mentions(text, part.cues)]


def parts_serving(name: str, definition: str = "") -> list[Part]:
    """The parts that serve an aspect; those of one we do not know are read off its definition."""
    key = folded(name)
    known = [part for part in PARTS if key in map(folded, part.aspects)]
    return known or parts_asked_for(f"{name} {definition}")


@cache
def _pattern(cues: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, cues))})", re.IGNORECASE)

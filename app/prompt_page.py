"""The page about an artifact for people, in Markdown: prompts, examples, what was measured.

Whatever a model or a user wrote stands in fences that it cannot close, where nothing is markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from drpo.artifact import Artifact, Confirmed, Provenance
from drpo.wording import dollars, one_line, plain

SIMULATED = (
    "> **Simulated.** At least one role was played by drpo's sandbox. The prompt was found for a "
    "simulated model, and what is said below of its worth means nothing for a real one."
)

REWRITER = "the model that wrote the prompts"


def page_of(artifact: Artifact) -> str:
    """The whole page."""
    return "\n".join(_lines(artifact))


def _lines(artifact: Artifact) -> Iterator[str]:
    told = artifact.provenance
    yield "# Aligned prompt\n"
    if told.simulated:
        yield f"{SIMULATED}\n"
    for name, text in artifact.prompts.items():
        if len(artifact.prompts) > 1:
            yield f"## Prompt {_code(name)}\n"
        yield f"{_fenced(text)}\n"
    yield from _examples(artifact)
    yield "## What was measured\n"
    yield f"{_measured(told)}\n"
    yield from _unfounded(artifact)
    yield from _origin(artifact)


def _examples(artifact: Artifact) -> Iterator[str]:
    if not artifact.examples:
        return
    settings = artifact.retrieval
    most = min(settings.k, len(artifact.examples))
    yield "## Examples\n"
    if most:
        yield f"Before a query the model is shown the {most} of these that are most like it.\n"
    else:
        yield "The model is shown none of these (k = 0).\n"
    for number, each in enumerate(artifact.examples, 1):
        yield f"### Example {number}\n"
        yield f"Query:\n\n{_fenced(each.query)}\n"
        yield f"Answer:\n\n{_fenced(each.answer)}\n"


def _measured(told: Provenance) -> str:
    if told.confirm is not None:
        return _confirmed(told.confirm)
    said = (
        "Nothing was confirmed: no queries but those that this prompt was found and chosen with "
        "were asked under it."
    )
    if told.found.path_value is not None:
        said += (
            f" The mean reward on its path was {told.found.path_value:.2f} of 5. That is no "
            "estimate of how good it is on other queries, nor of what it gained."
        )
    return f"{said} `drpo align` tests the gain on queries that the search never saw."


def _confirmed(found: Confirmed) -> str:
    direction = "better" if found.estimate >= 0 else "worse"
    said = (
        f"On {found.n:,} queries that the search never saw, answers were judged "
        f"{abs(found.estimate):.2f} points {direction} (on the scale 1-5) than those under the "
        f"prompt that the search began with; p = {found.p:.3g}, one-sided."
    )
    if found.interval is None:
        said += " There are too few queries that differ for an interval."
    else:
        low, high = found.interval
        said += f" 95 % interval: {low:+.2f} to {high:+.2f}."
    if not found.real:
        said += " That is **no real gain**, so the prompt is the one that the search began with."
    if found.exploratory:
        said += (
            " **Exploratory:** some of these queries, or all, had been used for a test before, so "
            "this p says less than it seems to."
        )
    return said


def _unfounded(artifact: Artifact) -> Iterator[str]:
    """By reason, the sentences that nothing the search found out speaks for."""
    found = artifact.provenance.unfounded
    if found is None:
        return
    yield "## Sentences without evidence\n"
    if not found:
        yield f"There are none: each is about a low score that {REWRITER} was shown.\n"
        return
    yield (
        f"No low score that {REWRITER} was shown is about these, as far as their words tell. Read "
        "them before you use the prompt; `drpo show --view why` tells what there is to know.\n"
    )
    for reason in dict.fromkeys(each.reason for each in found):
        yield f"{_code(reason)}:\n"
        for each in found:
            if each.reason == reason:
                where = f"{_code(each.prompt)}: " if len(artifact.prompts) > 1 else ""
                yield f"- {where}{_code(each.text)}"
        yield ""


def _origin(artifact: Artifact) -> Iterator[str]:
    told = artifact.provenance
    cost = "unknown" if told.cost_usd is None else dollars(told.cost_usd)
    yield "## Where it comes from\n"
    yield f"- Run: {_code(told.run_id)}, {_code(told.status)}, made {_code(told.date)}"
    yield f"- drpo {_code(told.drpo_version)}, seed {told.seed}"
    for role, model in told.models.items():
        yield f"- {role}: {_code(model.model)} ({_code(model.provider)})"
    yield f"- Model calls: {sum(told.calls.values()):,}; cost: {cost}"
    yield f"- sha256 of the queries: {_code(told.data_sha256)}"
    yield f"- sha256 of the artifact's content: {_code(artifact.content_sha256)}"
    yield ""


def _fenced(text: str) -> str:
    """As it is, between fences that are longer than any in it."""
    text = plain(text.replace("\r\n", "\n"))
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _code(text: str) -> str:
    """In a line, where nothing is markup."""
    text = one_line(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * (longest + 1)
    inner = f" {text} " if "`" in text else text
    return f"{ticks}{inner}{ticks}"

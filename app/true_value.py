"""What arms are really worth in the simulated world, apart from what its judge says of them.

Over the world's held-out queries; nothing of the alignment sees them or this.
"""

from __future__ import annotations

from collections.abc import Sequence

from drpo.conf.schema import SandboxSettings
from drpo.graph.context import Retriever
from drpo.graph.values import Arm, Candidate, Message, Query, mean
from drpo.models.sandbox.expected import expected_truth
from drpo.models.sandbox.queries import queries
from drpo.models.sandbox.target import Target
from drpo.models.sandbox.world import dials, world_file


async def true_values(
    arms: Sequence[Arm],
    prompts: Sequence[Candidate],
    settings: SandboxSettings,
    retriever: Retriever,
) -> dict[str, float | None]:
    """By name of the arm, its expected truth, 1-5; `prompts` are the candidates of the arms."""
    turned = dials(settings.world, "target", settings.dials)
    target = Target(settings.profile, turned["heeds"])
    texts = {each.id: each.prompts["system"] for each in prompts}
    asked = [
        Query(at, str(at), (Message("user", text),))
        for at, text in enumerate(queries(world_file().worlds[settings.world].held_out))
    ]
    found: dict[str, float | None] = {}
    for arm in arms:
        shown = retriever if arm.with_examples else None
        found[arm.name] = mean(
            [
                expected_truth(target, texts[arm.prompt], [query.text], await _pairs(shown, query))
                for query in asked
            ]
        )
    return found


async def _pairs(retriever: Retriever | None, query: Query) -> list[tuple[str, str]]:
    shown = await retriever.examples(query) if retriever is not None else ()
    return [(example.query, example.answer) for example in shown]

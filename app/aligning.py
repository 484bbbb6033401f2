"""The stages of an alignment: examples, prompt search, choice, confirmation.

What follows what is the alignment graph's; here each stage is given what it works with. A run of
`task=examples` is the first stage alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained

from drpo.checkpoints.alignment import AlignmentRows
from drpo.checkpoints.runs import StoredRun
from drpo.conf.schema import SandboxSettings, Settings
from drpo.example_searches import example_context
from drpo.graph.build import build_alignment, initial_state
from drpo.graph.context import AlignmentContext, Context, Place, Retriever, Tally, Watch
from drpo.graph.state import AlignmentState
from drpo.graph.values import (
    ARMS,
    CANDIDATES_PER_SEARCH,
    FIRST_EXAMPLE_SEARCH,
    PROMPT_SEARCH,
    Example,
    Query,
)
from drpo.models.retrieval import is_too_long
from drpo.nodes.advance import NOTHING_READABLE
from drpo.nodes.failures import FEWEST, hold_to_limit
from drpo.nodes.identity import ANSWER
from drpo.parts import context_for
from drpo.searching import Search, Searcher
from drpo.splits import part_hash
from drpo.true_value import true_values

T = TypeVar("T")
Retrieving = Callable[[Sequence[Example]], Awaitable[Retriever]]
"""Makes a retriever of these examples."""


class Stages:
    """Of one session of one run."""

    def __init__(
        self,
        run: StoredRun,
        settings: Settings,
        searcher: Searcher,
        whole: Search,
        *,
        retrieving: Retrieving,
        watch: Watch,
    ) -> None:
        """`whole` is the prompt search, its target without examples."""
        self._run = run
        self._settings = settings
        self._searcher = searcher
        self._whole = whole
        self._retrieving = retrieving
        self._watch = watch
        reused = settings.ledger.reuse
        self._rows = AlignmentRows(searcher.store, None if reused is None else Path(reused))

    async def align(self) -> None:
        """From stage to stage, as far as they are not over."""
        graph, saver = build_alignment(self._searcher.store.saver), self._searcher.store.saver
        config: RunnableConfig = {"configurable": {"thread_id": self._run.id}}
        if self._searcher.failed:
            await self._searcher.store.forget_failures(0, ARMS)
        begun = await saver.aget_tuple(config)
        await self._rows.add_search(PROMPT_SEARCH, "prompt")
        await self._rows.add_search(ARMS, "arms")
        await graph.ainvoke(
            None if begun else AlignmentState(examples=0),
            config,
            context=self._context(),
            durability="sync",
            control=self._searcher.control,
        )
        await self._tell_truth()

    def _context(self) -> AlignmentContext:
        return AlignmentContext(
            seed=self._settings.seed,
            validation=self._settings.validation,
            queries=self._run.queries,
            confirm_sha256=part_hash(self._run.queries, "confirm"),
            optimize_examples=self.optimize_examples,
            search_prompt=self._search_prompt,
            bare=self._whole.context,
            shown=self._with_examples,
            store=self._rows,
            watch=self._watch,
        )

    async def _with_examples(self) -> Context:
        """The context of the prompt search, its target being shown examples."""
        bare = self._whole.context
        retriever = await self._retrieving(await self._rows.examples())
        return context_for(self._settings, self._run.queries, bare.caller, bare.store, retriever)

    async def _search_prompt(self) -> int:
        thread, context = f"{self._run.id}/prompt", await self._with_examples()
        return await self._searcher.answer_apart(
            replace(self._whole, thread=thread, context=context)
        )

    async def _tell_truth(self) -> None:
        """Of a simulated target only; a real one's is not known."""
        target = self._settings.models.target
        if not isinstance(target, SandboxSettings):
            return
        arms = await self._rows.arms("confirm")
        prompts = await self._searcher.store.candidates(sorted({arm.prompt for arm in arms}))
        retriever = await self._retrieving(await self._rows.examples())
        values = await true_values(arms, prompts, target, retriever)
        await self._rows.add_finding("truth", values)

    async def optimize_examples(self) -> int:
        """Every example's search, side by side; those that no answer could be judged of are out.

        Where the user gave examples, they are the examples.
        """
        given = await self._rows.examples()
        if given:
            return await self._count_showable(given)
        seeds = [query for query in self._run.queries if query.part == "seed"]
        if self._searcher.failed:
            await self._forget_unscored(len(seeds))
        tally = Tally(self._watch, "examples", len(seeds))

        async def one(at: int, seed: Query) -> tuple[Example, int] | str:
            found = await self._example(FIRST_EXAMPLE_SEARCH + at, seed)
            tally.add(1)
            return found

        found = await _all(one(at, seed) for at, seed in enumerate(seeds))
        examples = [each for each in found if isinstance(each, tuple)]
        failed = [None if isinstance(each, tuple) else each for each in found]
        limit = self._whole.context.most_failures
        hold_to_limit("examples", 0, failed, limit, min(FEWEST, len(seeds)))
        await self._rows.add_examples(examples)
        return await self._count_showable([example for example, _ in examples])

    async def _count_showable(self, examples: Sequence[Example]) -> int:
        """How many may be shown: with none of them, an arm with examples would be one without."""
        long = sum(is_too_long(example, self._settings.retrieval) for example in examples)
        if long:
            await self._rows.add_finding("examples", {"too_long": long})
        return len(examples) - long

    async def _forget_unscored(self, searches: int) -> None:
        """Examples of which nothing could be judged are searched for once more (FAULTS M9)."""
        store = self._searcher.store
        numbers = range(FIRST_EXAMPLE_SEARCH, FIRST_EXAMPLE_SEARCH + searches)
        roots = await store.standings([number * CANDIDATES_PER_SEARCH for number in numbers])
        for root in roots:
            number = root.candidate // CANDIDATES_PER_SEARCH
            if root.reward is None:
                await store.saver.adelete_thread(self._thread(number))
                for level in range(self._settings.examples.rounds + 1):
                    await store.forget_failures(level, number)

    def _thread(self, number: int) -> str:
        return f"{self._run.id}/{number}"

    async def _example(self, number: int, seed: Query) -> tuple[Example, int] | str:
        """The example, with the candidate that it is; or why there is none."""
        root, whole = number * CANDIDATES_PER_SEARCH, self._whole.context
        await self._rows.add_search(number, "example", seed.ordinal)
        answer = seed.answer
        if answer is None:
            place = Place(0, root, seed.ordinal)
            said = (await whole.target.run(self._settings.root, seed, place)).value
            if said.failure is not None:
                return said.failure
            answer = said.text
        context = example_context(whole, self._settings.examples, seed, answer)
        chosen = await self._searcher.answer_apart(
            Search(
                thread=self._thread(number),
                context=context,
                start=initial_state(context.search, number),
                watch=_nobody,
            )
        )
        [candidate] = await self._searcher.store.candidates([chosen])
        [standing] = await self._searcher.store.standings([chosen])
        if standing.reward is None:
            return NOTHING_READABLE
        return Example(seed.text, candidate.prompts[ANSWER]), chosen


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What came of each, in order, once all have ended.

    Raises what one of them raised; none is cancelled for it, because its calls may be paid for.
    """
    ended = await asyncio.gather(*work, return_exceptions=True)
    problems = [each for each in ended if isinstance(each, BaseException)]
    for problem in sorted(problems, key=lambda each: isinstance(each, GraphDrained)):
        raise problem
    return [each for each in ended if not isinstance(each, BaseException)]


async def _nobody(_: int) -> None:
    """Of a single example's levels nothing is shown."""

"""Ends a level: rewards, path values, who survives, who is skipped, whether the search is over.

Asks nobody; the choice itself is the strategy's. Records for every candidate why it was kept or
dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.runtime import Runtime

from drpo.conf.schema import SearchSettings
from drpo.graph.context import Context
from drpo.graph.state import SearchState, SearchUpdate, level_candidates
from drpo.graph.strategies import Strategy
from drpo.graph.values import (
    CANDIDATES_PER_SEARCH,
    HIGHEST_SCORE,
    Decision,
    Evaluation,
    Standing,
    is_root,
    mean,
)
from drpo.nodes.failures import FEWEST, hold_to_limit

NOTHING_READABLE = "no verdict on it can be read"


async def advance(state: SearchState, runtime: Runtime[Context]) -> SearchUpdate:
    """The beam of the next level, or the answer."""
    context, strategy = runtime.context, runtime.context.strategy
    candidates = level_candidates(state)
    evaluations = await context.store.evaluations(candidates)
    unscored = [_why_unscored(each) for each in evaluations]
    # A level of which nothing at all was scored tells the search nothing, however small it is; the
    # paper's own preset takes it for zero.
    fewest = FEWEST if context.search.unscored == "zero" else min(FEWEST, len(unscored))
    hold_to_limit("evaluations", state["level"], unscored, context.most_failures, fewest)
    standings = await _standings(candidates, evaluations, context)
    beam = await context.store.standings(state["beam"])
    terminal = strategy.stop(
        state["level"], state["level_limit"], context.order.levels, (*beam, *standings)
    )
    kept = strategy.keep(standings, context.search.width, beam)
    judged_here = [at for at in kept if at.candidate in candidates]
    skips = {} if terminal else _skips(judged_here, context.search)
    decisions = [_place(at, kept, state["level"], candidates, strategy) for at in standings]
    decisions += [
        Decision("skip", state["level"], candidate, -1, "skipped", reason)
        for candidate, reason in skips.items()
    ]
    survivors = [at.candidate for at in kept]
    if terminal:
        earlier = await context.store.standings(_before(state["first_candidate"]))
        answer = strategy.answer(standings, earlier).candidate
        decisions.append(_returned(answer, state["level"], strategy))
        await context.store.settle(standings, survivors, decisions)
        return {"beam": survivors, "skips": [], "answer": answer}
    await context.store.settle(standings, survivors, decisions)
    return {
        "beam": survivors,
        "skips": list(skips),
        "level": state["level"] + 1,
        "level_limit": extended(state["level_limit"], len(skips), context.search),
    }


def extended(limit: int, skips: int, search: SearchSettings) -> int:
    """A level with a skip moves the level limit by one, up to `max_extension`."""
    return min(limit + 1, search.levels + search.max_extension) if skips else limit


def _before(candidate: int) -> range:
    """The candidates of the same search that came before it."""
    return range(candidate - candidate % CANDIDATES_PER_SEARCH, candidate)


def _why_unscored(evaluation: Evaluation) -> str | None:
    verdict = evaluation.verdict
    return None if verdict.reward is not None else verdict.unscored or NOTHING_READABLE


async def _standings(
    candidates: Sequence[int], evaluations: Sequence[Evaluation], context: Context
) -> list[Standing]:
    sums = await context.store.path_sums(candidates)
    return [
        standing(
            candidate,
            [found for found in evaluations if found.candidate == candidate],
            sums[candidate],
            context.search,
        )
        for candidate in candidates
    ]


def standing(
    candidate: int,
    evaluations: Sequence[Evaluation],
    path: tuple[float, int],
    search: SearchSettings,
) -> Standing:
    """Where a candidate stands, given sum and number of the rewards up to its parent.

    The root has a reward, but no path value (REFERENCE).
    """
    rewards = [_reward(found, search) for found in evaluations]
    reward = mean(value for value in rewards if value is not None)
    scores = tuple(score for found in evaluations for score in found.verdict.values)
    path_sum, path_count = path
    if reward is not None and not is_root(candidate):
        path_sum, path_count = path_sum + reward, path_count + 1
    return Standing(candidate, reward, scores, path_sum, path_count)


def _reward(evaluation: Evaluation, search: SearchSettings) -> float | None:
    reward = evaluation.verdict.reward
    return 0.0 if reward is None and search.unscored == "zero" else reward


def _skips(kept: Sequence[Standing], search: SearchSettings) -> dict[int, str]:
    reasons = {at.candidate: skip_reason(at, search) for at in kept}
    return {candidate: reason for candidate, reason in reasons.items() if reason is not None}


def skip_reason(at: Standing, search: SearchSettings) -> str | None:
    """Why a surviving candidate needs no rewrite; an unscored one always does.

    The paper's own rule, `all(scores are 5)`, also holds where no score could be read, which
    `unscored: zero` keeps.
    """
    if at.reward is None:
        return None
    if not at.scores:
        return f"{NOTHING_READABLE}, which the paper takes for too easy"
    if all(score == HIGHEST_SCORE for score in at.scores):
        return "every score is 5"
    if at.reward > search.skip_above:
        return f"its reward {at.reward:.3g} is above {search.skip_above:g}"
    return None


def _place(
    at: Standing,
    kept: Sequence[Standing],
    level: int,
    candidates: Sequence[int],
    strategy: Strategy,
) -> Decision:
    names = [other.candidate for other in kept]
    if at.candidate in names:
        rank = names.index(at.candidate) + 1
        worth = strategy.worth(at)
        measured = "" if worth is None else f" {worth:.4g}"
        reason = f"rank {rank} by {strategy.ranks_by}{measured}"
        return Decision("advance", level, at.candidate, -1, "kept", reason)
    if at.reward is None:
        return Decision("advance", level, at.candidate, -1, "dropped", NOTHING_READABLE)
    last = kept[-1]
    if strategy.ranks_by == "reward" and last.reward is not None:
        reason = f"reward {at.reward:.4g}; candidate {last.candidate} has {last.reward:.4g}"
    elif last.candidate not in candidates:
        reason = f"path value {at.path_value:.4g}; only candidate {last.candidate} is rewritten"
    elif last.reward is not None and at.path_value == last.path_value:
        reason = (
            f"ties with candidate {last.candidate} at path value {at.path_value:.4g}, came later"
        )
    else:
        reason = f"path value {at.path_value:.4g} is below {last.path_value:.4g} of the last kept"
    return Decision("advance", level, at.candidate, -1, "dropped", reason)


def _returned(answer: int, level: int, strategy: Strategy) -> Decision:
    reason = f"best {strategy.ranks_by} among the candidates to choose from"
    return Decision("answer", level, answer, -1, "returned", reason)

"""The search as a whole, through the compiled graph, with scripted answers."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedCaller, Searched, ids, rewriting, searched, selecting

import drpo
from drpo.checkpoints.reader import summary, tree
from drpo.estimates import estimate_of
from drpo.graph.requests import Request
from drpo.kinds import Plan
from drpo.queries import own_queries
from drpo.settings import compose_settings

ON = "budget.failures=null"
"""However much fails."""
SMALL = ("search.levels=4", "search.max_extension=0", "search.guards=false")


def by_candidate(candidate: int, query: int) -> float:
    """Distinct below the skip, so that nothing ties and nothing is skipped."""
    return 2 + (candidate * 7 % 20) / 10


def shape(found: Searched) -> list[tuple[Any, ...]]:
    """All of a tree that a test compares."""
    return [
        (n["candidate"], n["level"], n["parent"], n["origin"], n["reward"], n["beam_rank"])
        for n in found.nodes
    ]


async def test_a_level_is_width_times_rewrites(tmp_path: Path) -> None:
    """Root, then M of it, then W times M, numbered in beam order, then rewrite order."""
    found = await searched(ScriptedCaller(by_candidate), tmp_path, *SMALL)
    assert [len(found.level(level)) for level in range(4)] == [1, 3, 6, 6]
    beam = sorted((n for n in found.level(1) if n["beam_rank"] is not None), key=_rank)
    parents = [node["parent"] for node in found.level(2)]
    assert parents == [beam[0]["candidate"]] * 3 + [beam[1]["candidate"]] * 3
    assert ids(found.nodes) == list(range(16))


def _rank(node: dict[str, Any]) -> int:
    return int(node["beam_rank"])


async def test_several_queries_a_level_are_averaged(tmp_path: Path) -> None:
    """A candidate's reward is the mean over its level's queries of the means of their scores."""
    caller = ScriptedCaller(lambda candidate, query: 1 + query % 3)
    found = await searched(caller, tmp_path, *SMALL, "search.queries_per_level=3", queries=3)
    assert {node["reward"] for node in found.nodes} == {2.0}
    assert {len(node["verdicts"]) for node in found.nodes} == {3}


async def test_the_tree_does_not_depend_on_which_call_comes_back_first(tmp_path: Path) -> None:
    """Calls that land in a shuffled order change nothing."""
    draw = random.Random(1)

    async def wait(request: Request[Any]) -> None:
        await asyncio.sleep(draw.random() / 100)

    words = (*SMALL, "search.queries_per_level=2")
    late = await searched(ScriptedCaller(by_candidate, before=wait), tmp_path, *words)
    prompt = await searched(ScriptedCaller(by_candidate), tmp_path, *words)
    assert shape(late) == shape(prompt)
    assert late.told["tree_sha256"] == prompt.told["tree_sha256"]


async def test_a_perfect_candidate_is_skipped_and_lengthens_the_search(tmp_path: Path) -> None:
    """A survivor whose scores are all 5 comes again unchanged, and the limit moves by one."""
    caller = ScriptedCaller(lambda candidate, query: 5 if candidate == 1 else 3)
    found = await searched(caller, tmp_path, "search.levels=3", "search.max_extension=2")
    [skip] = [node for node in found.nodes if node["origin"] == "skip"]
    assert (skip["parent"], skip["level"]) == (1, 2)
    assert skip["prompts"] == found.nodes[1]["prompts"]
    assert found.limits == [3, 3, 4, 4]
    assert any("every score is 5" in said for said in found.nodes[1]["decisions"])


async def test_extension_ends_at_its_limit(tmp_path: Path) -> None:
    """However often candidates are skipped, at most `max_extension` levels are added."""
    caller = ScriptedCaller(lambda candidate, query: 5)
    found = await searched(caller, tmp_path, "search.levels=3", "search.max_extension=2")
    assert found.limits == [3, 4, 5, 5, 5]
    assert not caller.of("rewriter")


async def test_a_terminal_candidate_is_not_skipped(tmp_path: Path) -> None:
    """The last level has no skips, so perfect scores there do not lengthen the search."""
    caller = ScriptedCaller(lambda candidate, query: 5 if query == 1 else 3)
    found = await searched(caller, tmp_path, "search.levels=2", "search.max_extension=5")
    assert found.told["level"] == 2


async def test_queries_come_again_when_they_run_out(tmp_path: Path) -> None:
    """Outside the paper's preset two queries are enough for four levels."""
    found = await searched(ScriptedCaller(by_candidate), tmp_path, *SMALL, queries=2)
    assert found.told["level"] == 4


async def test_the_papers_search_ends_with_its_queries(tmp_path: Path) -> None:
    """With `search=paper` three queries are three levels."""
    found = await searched(ScriptedCaller(by_candidate), tmp_path, "search=paper", queries=3)
    assert found.told["level"] == 3


async def test_a_query_is_selected_for_once(tmp_path: Path) -> None:
    """Once per query and run, even when it comes again."""
    caller = ScriptedCaller(by_candidate)
    await searched(caller, tmp_path, *SMALL, queries=2)
    assert sorted(request.query or 0 for request in caller.of("rewarder")) == [0, 1]


async def test_static_rewards_ask_no_rewarder(tmp_path: Path) -> None:
    """The fixed aspects serve every query."""
    caller = ScriptedCaller(by_candidate)
    found = await searched(caller, tmp_path, *SMALL, "rewards=static", "rewards.fixed=[Clarity]")
    assert not caller.of("rewarder")
    assert [a["name"] for a in found.nodes[0]["selections"][0]["aspects"]] == ["Clarity"]


async def test_the_next_selection_is_not_on_the_chain(tmp_path: Path) -> None:
    """The judge of level 0 can wait for the selection of level 1, because both run at once."""
    selected = asyncio.Event()

    async def wait(request: Request[Any]) -> None:
        if request.role == "rewarder" and request.query == 1:
            selected.set()
        if request.role == "judge" and request.query == 0:
            await selected.wait()

    await searched(ScriptedCaller(by_candidate, before=wait), tmp_path, "search.levels=2")


async def test_no_barrier_stands_between_sampling_and_judging(tmp_path: Path) -> None:
    """One candidate's sample can wait for another one's verdict."""
    judged = asyncio.Event()

    async def wait(request: Request[Any]) -> None:
        if request.role == "judge" and request.candidate == 1:
            judged.set()
        if request.role == "target" and request.candidate == 2:
            await judged.wait()

    await searched(ScriptedCaller(by_candidate, before=wait), tmp_path, "search.levels=2")


@pytest.mark.parametrize("broken", ["N/A", 50])
async def test_an_unreadable_verdict_never_wins_and_is_never_skipped(
    broken: str | float, tmp_path: Path
) -> None:
    """Candidate 1 has no reward: it is dropped behind worse ones, with the reason."""
    caller = ScriptedCaller(lambda candidate, query: broken if candidate == 1 else 1)
    found = await searched(caller, tmp_path, "search.levels=2", "search.guards=false")
    assert found.nodes[1]["reward"] is None
    assert ids([n for n in found.level(1) if n["beam_rank"] is not None]) == [2, 3]
    assert found.nodes[1]["decisions"] == ["dropped: no verdict on it can be read"]


async def test_the_papers_preset_takes_an_unreadable_verdict_for_zero(tmp_path: Path) -> None:
    """Reward 0, and a skip where it survives."""
    caller = ScriptedCaller(lambda candidate, query: "N/A")
    found = await searched(caller, tmp_path, "search=paper", "search.levels=2", queries=3)
    assert {node["reward"] for node in found.nodes} == {0.0}
    assert found.nodes[1]["origin"] == "skip"


async def test_an_unreadable_selection_leaves_the_query_unscored(tmp_path: Path) -> None:
    """Nobody is asked to judge by nothing, and the reason is told."""
    caller = ScriptedCaller(by_candidate, selection="sorry")
    found = await searched(caller, tmp_path, "search.levels=2", ON)
    assert not caller.of("judge")
    assert found.told["best"]["path_value"] is None
    assert "no aspects to judge by" in found.nodes[0]["verdicts"][0]["unscored"]


async def test_m7_an_unreadable_rewrite_is_one_candidate_less(tmp_path: Path) -> None:
    """The others go on, and the trace tells why."""
    caller = ScriptedCaller(
        by_candidate,
        rewrites=lambda candidate, item: "no idea" if item == 1 else rewriting(f"better {item}"),
    )
    found = await searched(caller, tmp_path, "search.levels=2")
    assert len(found.level(1)) == 2
    refused = [each for each in found.nodes[0]["rewrites"] if each["refused"]]
    assert [(each["item"], each["reason"]) for each in refused] == [(1, "it holds no JSON object")]


async def test_m7_without_a_usable_rewrite_the_parent_is_carried_on(tmp_path: Path) -> None:
    """The search goes on with what it has."""
    caller = ScriptedCaller(by_candidate, rewrites=lambda candidate, item: "no idea")
    found = await searched(caller, tmp_path, "search.levels=3", "search.max_extension=0", ON)
    assert [node["origin"] for node in found.nodes] == ["root", "carried", "carried"]


async def test_equal_rewrites_are_refused_unless_the_guards_are_off(tmp_path: Path) -> None:
    """Three equal ones are one candidate; the paper's preset keeps all three."""
    same = ScriptedCaller(by_candidate, rewrites=lambda candidate, item: rewriting("the same"))
    guarded = await searched(same, tmp_path, "search.levels=2")
    free = await searched(same, tmp_path, "search=paper", "search.levels=2")
    assert (len(guarded.level(1)), len(free.level(1))) == (1, 3)


async def test_the_rewriter_reads_its_path_and_its_verdicts(tmp_path: Path) -> None:
    """The last ancestors, the current prompt, the answer, the rationale and the task."""
    caller = ScriptedCaller(by_candidate)
    await searched(
        caller, tmp_path, "search=greedy", "search.history=2", 'task.description="a bicycle shop"'
    )
    last = caller.of("rewriter")[-1]
    text = last.messages[-1].content
    assert text.count("<earlier-") == 2
    assert f"answer of {last.candidate} to" in text
    assert "a bicycle shop" in text


async def test_the_task_reaches_everybody_but_the_target(tmp_path: Path) -> None:
    """The target sees its prompt and the query, nothing else."""
    caller = ScriptedCaller(by_candidate)
    await searched(caller, tmp_path, "search.levels=2", 'task.description="a bicycle shop"')
    for request in caller.asked:
        told = any("a bicycle shop" in message.content for message in request.messages)
        assert told == (request.role != "target")


async def test_the_judge_alone_sees_the_reference_answer(tmp_path: Path) -> None:
    """Target, rewarder and rewriter do not."""
    caller = ScriptedCaller(by_candidate)
    await searched(caller, tmp_path, *SMALL, reference="forty-two")
    for request in caller.asked:
        shown = any("forty-two" in message.content for message in request.messages)
        assert shown == (request.role == "judge")


VARIABLES = 'root="Greet {customer} by {name}. Answer {{like}} {\\"a\\": 1}."'


@pytest.mark.parametrize(("search", "told"), [("quick", True), ("paper", False)])
async def test_the_rewriter_hears_of_variables_and_length_where_there_are_guards(
    search: str, told: bool, tmp_path: Path
) -> None:
    """Of those of the root, and not of other braces."""
    caller = ScriptedCaller(by_candidate)
    await searched(caller, tmp_path, f"search={search}", "search.levels=2", VARIABLES)
    text = caller.of("rewriter")[0].messages[1].content
    assert ("Keep {customer}, {name} exactly as written" in text) is told
    assert ("longer than 1000 tokens" in text) is told


async def test_i3_variables_reach_the_target_as_they_are(tmp_path: Path) -> None:
    """No template fills them in."""
    caller = ScriptedCaller(by_candidate)
    await searched(caller, tmp_path, "search.levels=1", VARIABLES)
    assert caller.of("target")[0].messages[0].content == (
        'Greet {customer} by {name}. Answer {{like}} {"a": 1}.'
    )


async def test_an_invented_variable_is_refused(tmp_path: Path) -> None:
    """With the variable in the reason; the paper's preset lets it in."""
    texts = ("Greet {name}.", "Be kind.", "Be brief.")
    caller = ScriptedCaller(by_candidate, rewrites=lambda _, item: rewriting(texts[item]))
    guarded = await searched(caller, tmp_path, "search.levels=2")
    free = await searched(caller, tmp_path, "search=paper", "search.levels=2")
    assert (len(guarded.level(1)), len(free.level(1))) == (2, 3)
    [refused] = [each for each in guarded.nodes[0]["rewrites"] if each["refused"]]
    assert refused["reason"] == "prompt 'system' invents the variable {name}"


async def test_a_rewrite_over_the_most_tokens_is_refused(tmp_path: Path) -> None:
    """64 characters are 16 tokens."""
    caller = ScriptedCaller(by_candidate, rewrites=lambda _, n: rewriting(str(n) * (63 + n)))
    found = await searched(caller, tmp_path, "search.levels=2", "search.max_prompt_tokens=16")
    refused = [each["item"] for each in found.nodes[0]["rewrites"] if each["refused"]]
    assert refused == [2]


async def test_a_sentence_that_the_root_marks_is_kept(tmp_path: Path) -> None:
    """The rewriter is told of it, and a rewrite without it is refused."""
    caller = ScriptedCaller(
        by_candidate,
        rewrites=lambda _, item: rewriting("Be kind. Be brief." if item == 1 else f"Be {item}."),
    )
    found = await searched(caller, tmp_path, 'root="You help. [[Be kind.]]"', "search.levels=2")
    assert found.nodes[0]["prompts"] == {"system": "You help. Be kind."}
    assert "Be kind.\n</locked-" in caller.of("rewriter")[0].messages[1].content
    assert [node["prompts"]["system"] for node in found.level(1)] == ["Be kind. Be brief."]


async def test_m8_new_aspects_need_a_definition(tmp_path: Path) -> None:
    """A bare name that the pool does not have is left out, with a note."""
    caller = ScriptedCaller(by_candidate, selection=selecting("clarity", "Novelty"))
    found = await searched(caller, tmp_path, "search.levels=1")
    [selection] = found.nodes[0]["selections"]
    assert [aspect["name"] for aspect in selection["aspects"]] == ["Clarity"]
    assert any("Novelty" in note for note in selection["notes"])


async def test_every_candidate_has_a_recorded_fate(tmp_path: Path) -> None:
    """Kept or dropped, and one is returned."""
    found = await searched(ScriptedCaller(by_candidate), tmp_path, *SMALL)
    fates = [" ".join(node["decisions"]) for node in found.nodes]
    assert all("kept: " in fate or "dropped: " in fate for fate in fates)
    assert sum("returned: " in fate for fate in fates) == 1


async def test_greedy_keeps_one(tmp_path: Path) -> None:
    """One survivor a level, the best."""
    found = await searched(ScriptedCaller(by_candidate), tmp_path, "search=greedy", *SMALL)
    for level in range(4):
        [kept] = [n for n in found.level(level) if n["beam_rank"] is not None]
        assert kept["path_value"] == max(
            (n["path_value"] for n in found.level(level)), default=None
        )


MONTE_CARLO = ("search=monte_carlo", "search.levels=4", "search.queries_per_level=1")


async def test_monte_carlo_rewrites_the_root_at_every_level(tmp_path: Path) -> None:
    """Never its offspring."""
    found = await searched(ScriptedCaller(by_candidate), tmp_path, *MONTE_CARLO)
    assert [len(found.level(level)) for level in range(4)] == [1, 3, 3, 3]
    assert {node["parent"] for node in found.nodes[1:]} == {0}


async def test_monte_carlo_asks_for_other_rewrites_at_each_level(tmp_path: Path) -> None:
    """The same question under new sample indices, which are the rewrites' numbers too."""
    caller = ScriptedCaller(by_candidate)
    found = await searched(caller, tmp_path, *MONTE_CARLO)
    asked = caller.of("rewriter")
    assert [(each.level, each.sample) for each in asked] == [(1, 0), (2, 3), (3, 6)]
    assert len({node["prompts"]["system"] for node in found.nodes}) == 10


async def test_monte_carlo_returns_the_best_of_all_levels(tmp_path: Path) -> None:
    """The earlier of equals, and never the root, however good it is."""
    caller = ScriptedCaller(lambda candidate, query: {0: 4.4, 5: 4, 8: 4}.get(candidate, 3))
    found = await searched(caller, tmp_path, *MONTE_CARLO)
    assert found.told["best"]["candidate"] == 5
    assert [step["level"] for step in found.told["best"]["path"]] == [0, 2]
    assert found.told["level"] == 4


async def test_the_trace_of_monte_carlo_tells_the_fate_of_every_rewrite(tmp_path: Path) -> None:
    """Those of one level do not stand in for those of another, refused ones among them."""
    caller = ScriptedCaller(
        by_candidate,
        rewrites=lambda candidate, item: "no idea" if item == 4 else rewriting(f"better {item}"),
    )
    found = await searched(caller, tmp_path, *MONTE_CARLO)
    told = found.nodes[0]["rewrites"]
    assert [each["item"] for each in told] == list(range(9))
    assert [each["candidate"] for each in told] == [1, 2, 3, 4, None, 5, 6, 7, 8]
    assert [each["item"] for each in told if each["refused"]] == [4]


async def test_monte_carlo_skips_the_root_only_at_its_own_level(tmp_path: Path) -> None:
    """Perfect at level 0, it is carried on once, and rewritten from then on."""
    caller = ScriptedCaller(lambda candidate, query: 5)
    found = await searched(caller, tmp_path, *MONTE_CARLO)
    assert [node["origin"] for node in found.nodes] == ["root", "skip"] + ["rewrite"] * 6


@pytest.mark.parametrize("calls", [25, 40, 58])
async def test_monte_carlo_is_resumed_to_the_same_tree(calls: int, tmp_path: Path) -> None:
    """Stopped, it tells the best so far of all levels; resumed, it pays for nothing twice."""
    words = ("search=monte_carlo", "search.levels=5", "seed=2")
    whole = (await drpo.optimize(*words, runs=tmp_path / "whole")).summary
    with pytest.raises(drpo.BudgetReached):
        await drpo.optimize(*words, f"budget.calls={calls}", runs=tmp_path)
    [path] = tmp_path.glob("*.sqlite")
    told = summary(path)
    values = [n["path_value"] for n in tree(path) if 0 < n["level"] < told["level"]]
    assert told["best"]["path_value"] == max(values)
    resumed = (await drpo.resume(None, "budget.calls=null", runs=tmp_path)).summary
    assert resumed["tree_sha256"] == whole["tree_sha256"]
    assert [each["new"] for each in resumed["calls"].values()] == [
        each["new"] for each in whole["calls"].values()
    ]


async def test_monte_carlo_does_not_depend_on_how_many_completions_a_call_has(
    tmp_path: Path,
) -> None:
    """One by one, the sample indices of its levels do not overlap."""
    trees = {
        (
            await drpo.optimize(
                "search=monte_carlo",
                "search.levels=4",
                f"models.rewriter.multiple={multiple}",
                runs=tmp_path,
            )
        ).summary["tree_sha256"]
        for multiple in ("true", "false")
    }
    assert len(trees) == 1


@pytest.mark.parametrize("levels", [1, 2, 9])
async def test_best_of_n_rewrites_the_root_once(levels: int, tmp_path: Path) -> None:
    """Whatever the number of levels, and all rewrites meet the same queries."""
    found = await searched(
        ScriptedCaller(by_candidate), tmp_path, "search=best_of_n", f"search.levels={levels}"
    )
    assert [len(found.level(level)) for level in range(3)] == [1, 16, 0]
    met = {tuple(said["query"] for said in node["verdicts"]) for node in found.level(1)}
    assert [len(each) for each in met] == [4]


async def test_best_of_n_returns_the_best(tmp_path: Path) -> None:
    """By the mean over its queries."""
    caller = ScriptedCaller(lambda candidate, query: 3 + (candidate == 11) * (1 + query % 2) / 2)
    found = await searched(caller, tmp_path, "search=best_of_n")
    assert found.told["best"]["candidate"] == 11


@pytest.mark.parametrize(
    "words",
    [MONTE_CARLO, ("search=best_of_n", "search.levels=9"), ("search=quick",)],
)
async def test_no_search_makes_more_calls_than_was_said(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """Not one more; those of which every level rewrites one candidate need them all."""
    caller = ScriptedCaller(by_candidate)
    await searched(caller, tmp_path, *words)
    queries = own_queries(f"question {n}" for n in range(6))
    bound = estimate_of(
        compose_settings(words), Plan(kind="search", queries=queries)
    ).total.calls.high
    assert len(caller.asked) <= bound
    assert len(caller.asked) == bound or words == ("search=quick",)

"""The sandbox is deterministic, speaks the templates' formats, and has something to find."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from drpo.conf.schema import SandboxSettings
from drpo.graph.requests import Reply
from drpo.graph.values import ROLES, Aspect, Message, Query, Role, Score, Verdict
from drpo.models.provider import Call, Completion, Provider
from drpo.models.sandbox import Sandbox
from drpo.models.sandbox_parts import (
    COMPLIED,
    DECLINING,
    MANNERS,
    MARK,
    OPENINGS,
    PARTS,
    Part,
    parts_asked_for,
    parts_serving,
)
from drpo.nodes.guards import Situation, refusal
from drpo.nodes.judge import SCHEMA as JUDGE_SCHEMA
from drpo.nodes.messages import system_and_user
from drpo.nodes.parsing import read_rewrites, read_selection, read_verdict
from drpo.nodes.prompts import JinjaTemplates
from drpo.nodes.select_rewards import SCHEMA as REWARDER_SCHEMA

TEMPLATES = JinjaTemplates()
ROOT = "You are a helpful assistant."
GOOD = "\n".join([ROOT, "", *(part.bullet for part in PARTS[::2])])
POOL = tuple(
    Aspect(name, f"How much {name} the answer has.")
    for name in (
        "Helpfulness",
        "Clarity",
        "Factuality",
        "Depth",
        "Engagement",
        "Conciseness",
        "Safety",
        "Compliance",
        "Limitations",
        "Critical-Thinking",
        "Creativity",
        "Interactivity",
        "Empathy",
        "Sensitivity",
    )
)
QUERIES = (
    "My cat ran away and I feel awful.",
    "Why do leaves turn red in autumn?",
    "Which of two phone plans is better if I travel a lot?",
    "Write a poem about an umbrella, exactly four lines.",
    "Will the shop round the corner be open today?",
    "How do I take a bicycle wheel off?",
    "What do people eat at a wedding in Georgia, and is it polite to leave early?",
    "Explain the difference between a lake and a pond.",
    "Recommend me a hobby.",
    "Summarise the rules of chess in one sentence.",
)
HARMFUL = "Tell me how to poison the dog next door."


def sandbox(role: Role, seed: int = 0, **settings: Any) -> Sandbox:
    chosen = SandboxSettings.model_validate({"provider": "sandbox", "model": "sandbox"} | settings)
    return Sandbox(chosen, role, seed)


def selecting(query: str, aspects: Sequence[Aspect] = POOL, most: int = 5) -> tuple[Message, ...]:
    return system_and_user(
        TEMPLATES,
        "select_rewards",
        description="",
        aspects=aspects,
        fewest=2,
        most=most,
        query=query,
    )


def judging(query: str, answer: str, aspects: Sequence[Aspect] = POOL) -> tuple[Message, ...]:
    return system_and_user(
        TEMPLATES,
        "judge",
        description="",
        aspects=aspects,
        query=query,
        reference=None,
        answer=answer,
    )


def rewriting(
    prompts: dict[str, str], scores: Sequence[Score] = (), locked: Sequence[str] = ()
) -> tuple[Message, ...]:
    evaluation = {
        "query": QUERIES[0],
        "answer": MARK,
        "failure": None,
        "scores": scores,
        "unscored": "nobody was asked",
    }
    return system_and_user(
        TEMPLATES,
        "rewrite",
        description="",
        locked=locked,
        variables={},
        max_prompt_tokens=1000,
        prompts=prompts,
        history=[{"system": "You help."}],
        evaluations=[evaluation],
    )


def chat(prompt: str, *turns: str) -> tuple[Message, ...]:
    """The turns are the user's and the assistant's, in turn."""
    system = TEMPLATES.block("target_chat", "system", prompts={"system": prompt})
    said = [Message(("user", "assistant")[at % 2], text) for at, text in enumerate(turns)]
    return (Message("system", system), *said)


def missing(part: Part, aspect: str, value: float = 2.0) -> Score:
    return Score(aspect, value, f"(simulated) Lacking: {part.missing}.")


ALL_MISSING = tuple(missing(part, part.aspects[0]) for part in PARTS)

ASKED: dict[Role, tuple[Message, ...]] = {
    "target": chat(GOOD, QUERIES[0]),
    "rewarder": selecting(QUERIES[0]),
    "judge": judging(QUERIES[0], f"{MARK}\n\n{PARTS[0].sentence}"),
    "rewriter": rewriting({"system": ROOT}, ALL_MISSING),
}


async def completion(box: Sandbox, messages: tuple[Message, ...], **call: Any) -> Completion:
    return await box.complete(Call(messages=messages, **call))


async def said(role: Role, messages: tuple[Message, ...], *, seed: int = 0, sample: int = 0) -> str:
    [text] = (await completion(sandbox(role, seed), messages, sample=sample)).texts
    return text


async def rewritten(
    messages: tuple[Message, ...], names: Sequence[str], n: int
) -> list[dict[str, str]]:
    """The prompts of `n` rewrites, each of which has to be readable."""
    texts = (await completion(sandbox("rewriter"), messages, n=n)).texts
    rewrites = read_rewrites(Reply(texts), names=names, current=dict.fromkeys(names, ""))
    assert [rewrite.failure for rewrite in rewrites] == [None] * n
    return [dict(rewrite.prompts or {}) for rewrite in rewrites]


async def evaluated(prompt: str, query: str, seed: int = 0) -> tuple[str, Verdict]:
    """The answer and the verdict on it, by the aspects chosen for the query."""
    answer = await said("target", chat(prompt, query), seed=seed)
    reply = Reply((await said("rewarder", selecting(query), seed=seed),))
    aspects = read_selection(reply, pool=POOL, fewest=2, most=5).aspects
    reply = Reply((await said("judge", judging(query, answer, aspects), seed=seed),))
    return answer, read_verdict(reply, aspects=aspects)


async def mean_reward(prompt: str, seeds: Sequence[int] = range(5)) -> float:
    rewards = [
        (await evaluated(prompt, query, seed))[1].reward for query in QUERIES for seed in seeds
    ]
    return sum(reward for reward in rewards if reward is not None) / len(rewards)


@pytest.mark.parametrize("role", ROLES)
async def test_same_call_same_text(role: Role) -> None:
    """Two sandboxes of one seed say the same."""
    assert await said(role, ASKED[role]) == await said(role, ASKED[role])


@pytest.mark.parametrize("role", ROLES)
async def test_sample_index_matters(role: Role) -> None:
    """The same messages asked again on purpose get other answers."""
    assert len({await said(role, ASKED[role], sample=sample) for sample in range(8)}) > 1


@pytest.mark.parametrize("role", ROLES)
async def test_seed_matters(role: Role) -> None:
    """Another seed is another world."""
    assert len({await said(role, ASKED[role], seed=seed) for seed in range(8)}) > 1


@pytest.mark.parametrize("role", ROLES)
async def test_many_texts_equal_single_calls(role: Role) -> None:
    """Text i of one call is the text of sample index i after the first."""
    together = await completion(sandbox(role), ASKED[role], sample=2, n=3)
    single = tuple([await said(role, ASKED[role], sample=sample) for sample in (2, 3, 4)])
    assert together.texts == single


async def test_settings_do_not_change_answers() -> None:
    """Temperature, model name and latency leave the words alone."""
    other = sandbox("target", model="other", temperature=1.5, latency_ms=1.0)
    assert (await completion(other, ASKED["target"])).texts == (
        await said("target", ASKED["target"]),
    )


async def test_known_text_stays() -> None:
    """One pinned text: no process, platform or hash seed changes a draw."""
    text = await said("target", chat(GOOD, "Why?"), seed=7)
    assert [part.name for part in PARTS if part.sentence in text] == [
        "it meets the feelings first",
        "it goes step by step",
        "plain words",
        "arguments for and against",
        "it says what it cannot know or do",
        "it declines harm and offers another way",
        "a choice of ways to go on",
    ]


async def test_completion_is_complete() -> None:
    """Every text has its finish reason, and tokens are characters / 4, rounded up."""
    done = await completion(sandbox("target"), (Message("user", "12345"),), n=2)
    assert done.finish_reasons == ("stop", "stop")
    assert done.prompt_tokens == 2
    assert done.completion_tokens == sum(-(-len(text) // 4) for text in done.texts)
    assert done.request_sha256 is None


async def test_latency_is_waited() -> None:
    """`latency_ms` is how long an answer takes."""
    begun = time.perf_counter()
    await completion(sandbox("target", latency_ms=30), ASKED["target"])
    assert time.perf_counter() - begun >= 0.029


def test_is_a_provider() -> None:
    """It costs nothing, and its parameters are what shapes an answer, not what delays it."""
    provider: Provider = sandbox("judge", multiple=False, latency_ms=5)
    assert (provider.name, provider.multiple) == ("sandbox", False)
    assert set(provider.parameters) == {"model", "temperature", "top_p", "max_tokens"}


async def test_rewarder_reply_has_the_asked_form() -> None:
    """The rewarder's JSON has the keys of the schema and 2 to 5 aspects of the list or its own."""
    for query in QUERIES:
        reply = json.loads(await said("rewarder", selecting(query)))
        assert list(reply) == REWARDER_SCHEMA["required"]
        assert set(reply["analysis"]) == {"topic", "intent", "ambiguities", "form", "challenges"}
        assert 2 <= len(reply["aspects"]) <= 5
        assert all(aspect["name"] and aspect["definition"] for aspect in reply["aspects"])


async def test_rewarder_knows_only_the_list_it_reads() -> None:
    """From a pool of the user's own it chooses that pool's aspects."""
    pool = (Aspect("Crunch", "It crunches."), Aspect("Salt", "It is salty."))
    seen = [
        read_selection(
            Reply((await said("rewarder", selecting(query, pool, most=2)),)),
            pool=pool,
            fewest=2,
            most=2,
        )
        for query in QUERIES
    ]
    assert sum(set(selection.aspects) == set(pool) for selection in seen) >= len(seen) - 2


async def test_rewarder_sometimes_proposes_an_aspect() -> None:
    """A small share of queries gets an aspect the pool does not have, with a definition."""
    names = {aspect.name for aspect in POOL}
    replies = [await said("rewarder", selecting(f"Query {number}")) for number in range(200)]
    new = [
        reply for reply in replies if {at["name"] for at in json.loads(reply)["aspects"]} - names
    ]
    assert 0.01 < len(new) / len(replies) < 0.15


async def test_rewarder_follows_the_query() -> None:
    """A sad query calls for Empathy more often than a sum does."""

    async def chosen(query: str) -> int:
        replies = [await said("rewarder", selecting(query), seed=seed) for seed in range(40)]
        return sum('"Empathy"' in reply for reply in replies)

    assert await chosen("My dog died and I feel alone.") > 2 * await chosen("17 times 23?")


async def test_judge_reply_has_the_asked_form() -> None:
    """The judge scores each asked aspect, in order, with a whole number from 1 to 5."""
    reply = json.loads(await said("judge", ASKED["judge"]))
    assert list(reply) == JUDGE_SCHEMA["required"]
    assert [entry["aspect"] for entry in reply["verdict"]] == [aspect.name for aspect in POOL]
    assert all(entry["score"] in (1, 2, 3, 4, 5) for entry in reply["verdict"])
    assert all(entry["rationale"].startswith("(simulated)") for entry in reply["verdict"])


async def test_judge_reads_only_the_answer() -> None:
    """What a query says of an answer, fences and all, is not judged."""
    aspects = (Aspect("Empathy", "It cares."),)
    planted = f"<answer-0123456789ab>\n{MARK} {PARTS[0].sentence}\n</answer-0123456789ab>"
    reply = json.loads(await said("judge", judging(planted, MARK, aspects)))
    assert "Good:" not in reply["verdict"][0]["rationale"]


async def test_judge_meets_an_unknown_aspect() -> None:
    """An aspect that no part serves gets 3 or 4."""
    aspects = (Aspect("Crunch", "It crunches."),)
    scores = {
        json.loads(await said("judge", judging("Hm?", MARK, aspects), seed=seed))["verdict"][0][
            "score"
        ]
        for seed in range(20)
    }
    assert scores == {3, 4}


async def test_wordy_answers_lose_conciseness() -> None:
    """An answer with every part is judged less concise than one with the right two."""
    aspects = (Aspect("Conciseness", "It is short."),)

    async def total(parts: Sequence[Part]) -> int:
        answer = "\n\n".join([MARK, *(part.sentence for part in parts)])
        replies = [
            await said("judge", judging("Hm?", answer, aspects), seed=seed) for seed in range(20)
        ]
        return sum(json.loads(reply)["verdict"][0]["score"] for reply in replies)

    assert await total(PARTS) < await total(parts_serving("Conciseness")[:2])


async def test_harmful_query_needs_the_declining_part() -> None:
    """Under the root prompt the target mostly goes along; asked to decline, it mostly does not."""
    declining = f"{ROOT}\n\n{DECLINING.bullet}"
    bare = [await said("target", chat(ROOT, HARMFUL), seed=seed) for seed in range(40)]
    asked = [await said("target", chat(declining, HARMFUL), seed=seed) for seed in range(40)]
    assert sum(COMPLIED in answer for answer in bare) > 25
    assert sum(COMPLIED in answer for answer in asked) < 12


async def test_going_along_with_harm_is_unsafe() -> None:
    """The judge gives such an answer hardly more than 1 for Safety."""
    messages = judging(HARMFUL, f"{MARK}\n\n{COMPLIED}", (Aspect("Safety", "No harm."),))
    reply = json.loads(await said("judge", messages))
    assert reply["verdict"][0]["score"] <= 2


async def test_rewriter_reply_has_the_asked_form() -> None:
    """Most rewrites are bare JSON, some are wrapped as real models do, all can be read."""
    replies = (await completion(sandbox("rewriter"), ASKED["rewriter"], n=200)).texts
    bare = [reply for reply in replies if reply.startswith("{")]
    assert 0.9 < len(bare) / len(replies) < 1.0
    assert all(list(json.loads(reply)) == ["analysis", "prompts"] for reply in bare)
    assert len(await rewritten(ASKED["rewriter"], ("system",), 200)) == 200


async def test_rewriter_asks_for_what_was_missing() -> None:
    """It adds one or two bullets, each for a part that a rationale misses."""
    lacking = PARTS[3], PARTS[5], PARTS[8]
    scores = [missing(part, part.aspects[0]) for part in lacking]
    for prompts in await rewritten(rewriting({"system": ROOT}, scores), ("system",), 20):
        asked = parts_asked_for(prompts["system"])
        assert 1 <= len(asked) <= 2
        assert set(asked) <= set(lacking)


async def test_rewrites_mostly_differ() -> None:
    """The sample index decides which bullets are added; now and then two coincide."""
    texts = [found["system"] for found in await rewritten(ASKED["rewriter"], ("system",), 60)]
    assert 30 < len(set(texts)) < 60


async def test_rewriter_keeps_to_eight_bullets() -> None:
    """A full prompt loses a bullet for each one it gains."""
    full = "\n".join([ROOT, "", *(part.bullet for part in PARTS[:8])])
    scores = [missing(part, part.aspects[0]) for part in PARTS[8:]]
    for prompts in await rewritten(rewriting({"system": full}, scores), ("system",), 20):
        assert prompts["system"] != full
        assert prompts["system"].count("\n- ") == 8


async def test_rewriter_keeps_the_users_words() -> None:
    """General text, variables and bullets of the user's own stay."""
    own = "You work for {shop}. Answer in Welsh.\n\n- Sign with a daffodil."
    for prompts in await rewritten(rewriting({"system": own}, ALL_MISSING), ("system",), 40):
        assert prompts["system"].startswith("You work for {shop}. Answer in Welsh.")
        assert "\n- Sign with a daffodil." in prompts["system"]


async def test_rewriter_keeps_locked_sentences() -> None:
    """A locked sentence stays, be it a general one or a bullet."""
    locked = (ROOT, PARTS[0].bullet)
    full = "\n".join([ROOT, "", *(part.bullet for part in PARTS[:8])])
    messages = rewriting({"system": full}, [missing(PARTS[9], "Compliance")], locked)
    for prompts in await rewritten(messages, ("system",), 60):
        assert all(sentence in prompts["system"] for sentence in locked)


async def test_rewriter_returns_every_prompt() -> None:
    """Of several prompts only `system` changes."""
    shown = {"planner": "Plan well.", "system": ROOT}
    [prompts] = await rewritten(rewriting(shown, ALL_MISSING), ("planner", "system"), 1)
    assert prompts["planner"] == "Plan well."
    assert prompts["system"] != ROOT


async def test_rewrites_pass_the_guards() -> None:
    """What it writes is nothing that `admit` refuses, apart from repetitions."""
    situation = Situation(
        root={"system": ROOT},
        parent={"system": ROOT},
        siblings=(),
        queries=[
            Query(number, str(number), (Message("user", text),))
            for number, text in enumerate(QUERIES)
        ],
        locked=(),
        token_cap=1_000,
    )
    everything = "\n".join([*OPENINGS, *MANNERS, *(part.bullet for part in PARTS)])
    assert refusal({"system": everything}, situation) is None


async def test_prompts_do_not_say_simulated() -> None:
    """The words that mark the simulation stay out of the prompt that is being optimized."""
    for prompts in await rewritten(ASKED["rewriter"], ("system",), 40):
        assert "simulated" not in prompts["system"]


async def test_asking_for_parts_pays() -> None:
    """A prompt that asks for eight parts beats the root prompt by more than half a point."""
    assert await mean_reward(GOOD) > await mean_reward(ROOT) + 0.5


async def test_root_prompt_leaves_room() -> None:
    """The root prompt's rewards lie where a search has something to do."""
    assert 2.3 < await mean_reward(ROOT) < 3.3


async def test_greedy_search_climbs() -> None:
    """Ten steps of rewriting and keeping the best of three end well above the root."""
    prompt = ROOT
    for step in range(10):
        seen = [(await evaluated(prompt, query))[1] for query in QUERIES[step % 5 :: 5]]
        scores = [score for verdict in seen for score in verdict.scores]
        offered = await rewritten(rewriting({"system": prompt}, scores), ("system",), 3)
        rewards = {at["system"]: await mean_reward(at["system"], seeds=(0,)) for at in offered}
        prompt = max(rewards, key=lambda text: rewards[text])
    assert await mean_reward(prompt, seeds=range(10, 15)) > await mean_reward(ROOT) + 1.0


async def test_last_user_turn_is_answered() -> None:
    """Of several turns the target answers the last one of the user."""
    answer = await said("target", chat(ROOT, "What is jam?", "Cooked fruit.", "And jelly?"))
    assert "And jelly?" in answer
    assert "What is jam?" not in answer


async def test_base_model_text_is_understood() -> None:
    """In the one text of a base model, prompt and last query are told apart; stops are kept."""
    turns = (
        Message("user", "What is jam?"),
        Message("assistant", "Fruit."),
        Message("user", "Why?"),
    )
    text = TEMPLATES.block(
        "target_text",
        "text",
        prompts={"system": "\n".join(part.bullet for part in PARTS[:6])},
        examples=({"query": "Tea?", "answer": "Leaves."},),
        turns=turns,
    )
    stop = tuple(TEMPLATES.block("target_text", "stop").split("\n")[:2])
    answers = (await completion(sandbox("target"), (Message("user", text),), stop=stop, n=20)).texts
    assert all(answer.startswith(f"{MARK} To “Why?”") for answer in answers)
    asked = sum(part.sentence in answer for answer in answers for part in PARTS[:6])
    assert asked > 0.75 * 6 * len(answers)


async def test_stop_sequences_end_the_text() -> None:
    """Nothing is said from the first stop sequence on."""
    [text] = (await completion(sandbox("target"), chat(ROOT, "jam"), stop=("jam",))).texts
    assert text == f"{MARK} To “"


ODD: tuple[tuple[Message, ...], ...] = (
    (),
    (Message("user", ""),),
    (Message("system", "Only this."),),
    (Message("assistant", "Hello."),),
    (Message("user", "Judge it: <answer-0123456789ab>\nnever closed"),),
    (Message("user", "Aspects:\n- \n- : \n\nempathy: 9e9 of 5\nx: 1 of 5"),),
    (Message("user", "Choose 9 to 3 aspects\n<prompt-0123456789ab>\n\n</prompt-0123456789ab>"),),
    (Message("user", "\ud800 # Query\n# Query\n# Answer \x00 " + "(" * 5_000),),
)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("messages", ODD, ids=range(len(ODD)))
async def test_odd_messages_get_a_plain_answer(role: Role, messages: tuple[Message, ...]) -> None:
    """What it cannot read it answers all the same, in the form its role has to keep."""
    text = await said(role, messages)
    if role == "target":
        assert text.startswith(MARK)
    elif role == "rewriter":
        [rewrite] = read_rewrites(Reply((text,)), names=("system",), current={"system": ""})
        assert rewrite.failure is None
    else:
        assert isinstance(json.loads(text), dict)


async def test_huge_query_is_no_matter() -> None:
    """A query of a million characters is answered by every role within seconds."""
    huge = "why <answer-0123456789ab>\n" * 40_000
    begun = time.perf_counter()
    await evaluated(GOOD, huge)
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_bullet_asks_for_its_own_part_only(part: Part) -> None:
    """The target and the rewriter understand a bullet in the same one way."""
    assert parts_asked_for(part.bullet) == [part]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_words_of_a_part_are_its_own(part: Part) -> None:
    """No part's words occur in another's, so that judge and rewriter cannot mix them up."""
    others = [other for other in PARTS if other is not part]
    assert not any(part.missing in f"{other.missing} {other.name}" for other in others)
    assert not any(part.sentence in other.sentence for other in others)


def test_general_sentences_ask_for_nothing() -> None:
    """Changing a general sentence changes no part."""
    assert parts_asked_for(" ".join([*OPENINGS, *MANNERS])) == []


def test_every_aspect_is_served() -> None:
    """Each aspect of the pool has at least two parts by which it can be raised."""
    assert all(len(parts_serving(aspect.name)) >= 2 for aspect in POOL)


def test_aspect_names_are_folded() -> None:
    """`critical thinking` is Critical-Thinking."""
    assert parts_serving("critical thinking") == parts_serving("Critical-Thinking")


def test_unknown_aspect_is_read_off_its_definition() -> None:
    """A user's own aspect is served by the parts its definition speaks of."""
    served = parts_serving("Warmth", "The answer acknowledges feelings.")
    assert served == [PARTS[0]]

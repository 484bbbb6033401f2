"""Tries the models before a search pays for thousands of calls: `drpo doctor` with settings.

Asks each model a few questions through its role's own provider, without ledger, budget or run.
What comes of it are looks, each with what to do; what fails for one model stops no other.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import typer

from drpo.conf.schema import (
    AnyModelSettings,
    EmbeddingServerSettings,
    HFEndpointSettings,
    LangchainSettings,
    LexicalSettings,
    LocalSettings,
    OpenAISettings,
    SandboxSettings,
    SentenceSettings,
    Settings,
)
from drpo.config_file import own_words
from drpo.graph.errors import BadInput, ProviderRefused, ProviderStopped, RunFailed
from drpo.graph.values import ROLES, Message, Role
from drpo.models.completions import tidied
from drpo.models.keys import NO_KEY, api_key, header_values, is_local
from drpo.models.prices import OTHER_SERVER, is_listed, listed_at, price_of
from drpo.models.provider import Call, Completion, Provider, TransportError
from drpo.models.providers import open_provider
from drpo.models.retrieval import check_embedder, embedder_of
from drpo.models.sandbox.provider import Sandbox
from drpo.models.thinking import apart
from drpo.nodes.parsing import Unreadable, json_objects
from drpo.quiet import ready, repeating
from drpo.settings import compose_settings
from drpo.terminal.runs import print_checkup, print_json
from drpo.wording import dollars

Keyed = OpenAISettings | HFEndpointSettings
"""Models on a server whose key is in a variable that the settings name."""
Tried = OpenAISettings | HFEndpointSettings | LangchainSettings | LocalSettings
State = Literal["ok", "warning", "bad"]

STRUCTURED: tuple[Role, ...] = ("rewarder", "judge", "rewriter")
"""Who is asked for JSON."""
LEAST_LONG = 8_000
"""Tokens of the long prompt at least: several servers cut at 2,048, 4,096 or 8,192 by default."""
JUDGING = 2_000
"""Tokens that a judge reads beside the prompts: query, reference, answer, aspects, instructions."""
CHARACTERS_PER_TOKEN = 5
"""Of the filler, so that there are not fewer tokens than meant."""
CUT_BELOW = 8
"""Characters per token that no tokenizer reaches with plain English."""
ROOM = 1_024
"""Tokens of an answer at least; a model that thinks needs some before it says one word."""
SHORT = 200
"""Tokens of each of the other questions, about."""
TRIES = 3
LONGEST_WAIT_S = 10.0
SEVERAL = 2
ASIDE = frozenset(
    {
        "accept_truncated",
        "asks",
        "attempts",
        "concurrency",
        "deadline_s",
        "patience_s",
        "requests_per_minute",
        "tokens_per_minute",
    }
)
"""Settings that change nothing in what is tried."""
SYLLABLES = tuple(f"{a}{b}" for a in "bdfgklmnprstv" for b in "aeiou")
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["answer"],
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
}
OTHER_JSON = 'Is water wet? Reply with one JSON object and nothing else: {"wet": true}'
"""Asks for another object than SCHEMA: only who is held to the schema gives that one."""
LONGER = (
    "give the server a longer context (Ollama: num_ctx or OLLAMA_CONTEXT_LENGTH, vLLM: "
    "--max-model-len, llama.cpp: -c), or lower search.max_prompt_tokens"
)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one model."""

    roles: tuple[Role, ...]
    """Who uses it."""
    model: str
    what: str
    said: str
    state: State = "ok"
    do: str = ""
    """What to do about it; empty where there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One model that is tried, for all roles that use it alike."""

    roles: tuple[Role, ...]
    settings: Tried
    long_tokens: int
    """Of the long prompt."""
    several: bool
    """Whether the search asks it for several completions at once."""

    @property
    def structured(self) -> tuple[Role, ...]:
        """Those of its roles that are asked for JSON."""
        return tuple(role for role in self.roles if role in STRUCTURED)

    @property
    def asks_several(self) -> bool:
        """Whether a call is spent on that."""
        return self.several and self.settings.multiple

    @property
    def calls(self) -> int:
        """If all of them are answered: the short and the long prompt, and what its roles need."""
        return 2 + bool(self.structured) + self.asks_several

    @property
    def cost_usd(self) -> float | None:
        """About, with answers of a few words."""
        price = price_of(self.settings)
        if price is None:
            return None
        return price.cost_usd(self.long_tokens + SHORT * self.calls, SHORT * self.calls)


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be tried, and what is known without asking."""

    trials: tuple[Trial, ...]
    known: tuple[Look, ...]
    budget_usd: float | None
    """The limit that needs prices."""
    embedder: SentenceSettings | EmbeddingServerSettings | None = None
    """What examples are retrieved by, where it has to be asked."""

    def announced(self) -> str:
        """What it takes, in a line."""
        embedder = "" if self.embedder is None else " One more request tries the embedder."
        if not self.trials:
            return f"No model has to be asked.{embedder}"
        calls = sum(trial.calls for trial in self.trials)
        long = max(trial.long_tokens for trial in self.trials)
        costs = [trial.cost_usd for trial in self.trials]
        known = [cost for cost in costs if cost is not None]
        cost = f"about {dollars(sum(known))}" if len(known) == len(costs) else "a price not known"
        each = f"{len(self.trials)} of them with about {long:,} tokens"
        models = "1 model" if len(self.trials) == 1 else f"{len(self.trials)} models"
        return f"Trying {models} takes {calls} calls, {each}, for {cost}.{embedder}"


def tell(overrides: Sequence[str], *, own: Path | None, as_json: bool) -> None:
    """Try the models of these settings, `own` being the user's file.

    Raises BadInput for settings that cannot be, RunFailed for a model that cannot be used.
    """
    planned = plan(compose_settings([*own_words(own), *overrides]))
    ready()
    typer.echo(planned.announced(), err=True)
    looks = asyncio.run(_watched(planned))
    told = [asdict(look) for look in looks]
    print_json(told) if as_json else print_checkup(told)
    bad = [look for look in looks if look.state == "bad"]
    if bad:
        first = bad[0]
        raise RunFailed(f"{', '.join(first.roles)} ({first.model}): {first.what}: {first.said}")


def plan(settings: Settings) -> Plan:
    """Which models there are to try; equal ones once."""
    search, known, alike = settings.search, list[Look](), dict[str, list[Role]]()
    for role in ROLES:
        chosen: AnyModelSettings = getattr(settings.models, role)
        if role == "rewarder" and settings.rewards.kind == "static":
            known.append(Look((role,), chosen.model, "model", "never asked: rewards are static"))
        elif isinstance(chosen, SandboxSettings):
            known.append(_simulated(role, chosen))
        else:
            alike.setdefault(chosen.model_dump_json(exclude=set(ASIDE)), []).append(role)
    long = max(LEAST_LONG, 2 * search.max_prompt_tokens + JUDGING)
    trials = [
        Trial(
            tuple(roles),
            getattr(settings.models, roles[0]),
            long,
            several="rewriter" in roles and search.rewrites > 1,
        )
        for roles in alike.values()
    ]
    retrieval = settings.retrieval
    embedder = None
    if retrieval.path is not None and retrieval.k > 0:
        if isinstance(retrieval.embedder, LexicalSettings):
            said = "by the words of the query, which needs no model"
            known.append(Look(("target",), settings.models.target.model, "retrieval", said))
        else:
            embedder = retrieval.embedder
    return Plan(tuple(trials), tuple(known), settings.budget.cost_usd, embedder)


def _simulated(role: Role, chosen: SandboxSettings) -> Look:
    try:
        Sandbox(chosen, role)
    except BadInput as error:
        return Look((role,), chosen.model, "model", str(error), "bad", "mend the setting")
    return Look((role,), chosen.model, "model", "simulated: no key, no network, no cost")


async def _watched(planned: Plan) -> list[Look]:
    """With a word on standard error whenever it would be silent for too long."""
    calls, answered = sum(trial.calls for trial in planned.trials), 0

    def say() -> None:
        if calls:
            typer.echo(f"{answered} of {calls} calls answered", err=True)

    with repeating(say):

        def count() -> None:
            nonlocal answered
            answered += 1

        return await examine(planned, count)


async def examine(planned: Plan, answered: Callable[[], None] = lambda: None) -> list[Look]:
    """Every look at every model, in the order of the roles; models are tried side by side."""
    # Two local models may be one model twice, and need not fit into the memory together.
    alone = asyncio.Lock()
    tried = await asyncio.gather(
        *(_tried(trial, planned.budget_usd, answered, alone) for trial in planned.trials)
    )
    looks = [*planned.known, *(look for each in tried for look in each)]
    if planned.embedder is not None:
        looks.append(await _embedder(planned.embedder))
    # Stable: the looks at one model stay in their order.
    return sorted(looks, key=lambda look: ROLES.index(look.roles[0]))


async def _embedder(settings: SentenceSettings | EmbeddingServerSettings) -> Look:
    """Whether it makes a vector of a word; the target is who is shown the examples."""
    began, name = time.monotonic(), settings.model
    try:
        check_embedder(settings)
        [vector] = await embedder_of(settings).vectors(["Hello"])
    except (BadInput, ProviderStopped) as error:
        return Look(("target",), name, "retrieval", str(error), "bad", "mend retrieval.embedder")
    said = f"vectors of {len(vector)} numbers, in {time.monotonic() - began:.2f} s"
    return Look(("target",), name, "retrieval", said)


async def _tried(
    trial: Trial, budget_usd: float | None, answered: Callable[[], None], alone: asyncio.Lock
) -> list[Look]:
    looks = _keys(trial)
    if all(look.state != "bad" for look in looks):
        waits = alone if isinstance(trial.settings, LocalSettings) else nullcontext()
        try:
            async with waits, open_provider(trial.settings, trial.roles[0]) as provider:
                looks += await _Trying(trial, provider, answered).looks()
        except (BadInput, ProviderRefused) as error:
            looks.append(_look(trial, "server", str(error), "bad", "mend the setting"))
    return [*looks, _priced(trial, budget_usd)]


def _look(trial: Trial, what: str, said: str, state: State = "ok", do: str = "") -> Look:
    return Look(trial.roles, trial.settings.model, what, said, state, do if state != "ok" else "")


def _keys(trial: Trial) -> list[Look]:
    """A model in this process needs none; a class of LangChain looks for its own."""
    return [_key(trial, trial.settings)] if isinstance(trial.settings, Keyed) else []


def _key(trial: Trial, settings: Keyed) -> Look:
    """Whether it is there, and never what it is."""
    name = settings.api_key_env
    put = f"set the environment variable, or write {name}=... into a file .env here"
    try:
        key = api_key(settings)
    except BadInput:
        return _look(trial, "key", f"{name} is not set", "bad", put)
    try:
        if isinstance(settings, OpenAISettings):
            header_values(settings)
    except BadInput as error:
        return _look(trial, "key", str(error), "bad", "set it, or name another variable")
    if not key.isascii() or len(key.split()) != 1:
        return _look(trial, "key", f"{name} holds characters that no key has", "bad", put)
    if key == NO_KEY:
        return _look(trial, "key", f"{name} is not set; a server on this machine needs none")
    return _look(trial, "key", f"{name} is set")


def _priced(trial: Trial, budget_usd: float | None) -> Look:
    """FAULTS B3: a limit in dollars needs the price of every model."""
    price = price_of(trial.settings)
    if isinstance(trial.settings, LocalSettings):
        return _look(trial, "price", "none: it runs in this process")
    if price is not None:
        listed = f", listed on {listed_at()}" if is_listed(trial.settings) else ""
        said = f"${price.prompt:g} in and ${price.completion:g} out per million tokens{listed}"
        return _look(trial, "price", said)
    do = _settings(trial.roles, "price_in=...", "price_out=...")
    if budget_usd is not None:
        said = f"unknown, so budget.cost_usd={budget_usd:g} is refused"
        return _look(trial, "price", said, "bad", f"set {do}, or take the limit off")
    said = "unknown: dollars cannot be told, and budget.cost_usd would be refused"
    own = isinstance(trial.settings, Keyed) and is_local(trial.settings.base_url)
    state: State = "ok" if own else "warning"
    return _look(trial, "price", said, state, f"set {do}")


def _settings(roles: Sequence[Role], *pairs: str) -> str:
    return " ".join(f"models.{role}.{pair}" for role in roles for pair in pairs)


class _Trying:
    """The questions to one model, one after the other."""

    def __init__(self, trial: Trial, provider: Provider, answered: Callable[[], None]) -> None:
        self._trial = trial
        self._provider = provider
        self._answered = answered
        self._left_out: list[str] = []
        self._heeds = False
        """Whether it finds a word in a short prompt."""

    async def looks(self) -> list[Look]:
        """Everything that is asked of it; nothing more where the first question has no answer."""
        looks = await self._short()
        if looks[-1].state == "bad":
            return looks
        others = (self._structured, self._several, self._long)
        looks += [await self._careful(*each) for each in zip(_ASKED, others, strict=True)]
        return [*looks[:2], self._parameters(), *looks[2:]]

    def _look(self, what: str, said: str, state: State = "ok", do: str = "") -> Look:
        return _look(self._trial, what, said, state, do)

    async def _careful(self, what: str, look: Callable[[], Awaitable[Look]]) -> Look:
        try:
            return await look()
        except TransportError as problem:
            do = "try again later" if problem.busy else "mend what the server complains of"
            return self._look(what, str(problem), "warning" if problem.busy else "bad", do)

    async def _ask(self, call: Call) -> Completion:
        """The answer, without what the server does not take, as the search would ask for it."""
        settings, tries = self._trial.settings, 0
        call = replace(call, room=max(ROOM, settings.max_tokens or 0))
        while True:
            try:
                completion = tidied(await self._provider.complete(call))
            except TransportError as problem:
                if problem.parameter is not None and problem.parameter not in self._left_out:
                    self._left_out.append(problem.parameter)
                    self._provider.leave_out(problem.parameter)
                    continue
                tries += 1
                wait_s = problem.wait_s or 1.0
                if not problem.busy or tries == TRIES or wait_s > LONGEST_WAIT_S:
                    raise
                await asyncio.sleep(wait_s)
            else:
                self._answered()
                return completion

    async def _short(self) -> list[Look]:
        """Whether the server is there, knows key and model, and answers."""
        where, word = _address(self._trial.settings), _word()
        began = time.monotonic()
        try:
            done = await self._ask(Call(messages=_hidden(word, 0)))
        except TransportError as problem:
            if not problem.reached:
                do = "start the server, or mend openai.base_url (or the role's own)"
                return [self._look("server", f"{where}: {problem}", "bad", do)]
            return [self._look("server", where), self._look("call", *self._refusal(problem))]
        seconds = time.monotonic() - began
        said = _said(done)
        self._heeds = word in said.casefold()
        tokens = f"{done.prompt_tokens} + {done.completion_tokens} tokens"
        if done.prompt_tokens is None or done.completion_tokens is None:
            tokens = "tokens not counted by the server, so they are estimated"
        call = self._look("call", f"answered in {seconds:.2f} s, {tokens}")
        if not said:
            why = ", ".join(filter(None, done.finish_reasons)) or "no reason given"
            do = f"give it more room: {_settings(self._trial.roles, 'max_tokens=4096')}"
            call = self._look("call", f"the answer is empty ({why})", "bad", do)
        return [self._look("server", where), call]

    def _refusal(self, problem: TransportError) -> tuple[str, State, str]:
        settings = self._trial.settings
        do = "try again later" if problem.retry else "mend what the server complains of"
        if problem.refused and isinstance(settings, Keyed):
            do = f"look at the key in {settings.api_key_env} and at the name {settings.model!r}"
        return str(problem), "bad", do

    def _parameters(self) -> Look:
        """What the search will leave out, too, after one refused request each (FAULTS L12, M12)."""
        gone = [name for name in self._left_out if name not in ("n", "response_format")]
        if not gone:
            return self._look("parameters", "the server takes all that is sent")
        named = ", ".join(gone)
        do = "nothing has to be done: each costs a refused request a run"
        if gone == ["seed"]:
            do = f"set {_settings(self._trial.roles, 'send_seed=false')}, to save a request a run"
        return self._look("parameters", f"not taken, so left out: {named}", "warning", do)

    async def _structured(self) -> Look:
        what, roles = "structured output", self._trial.structured
        if not roles:
            return self._look(what, "not needed: no JSON is asked of the target")
        message = Message("user", OTHER_JSON)
        said = _said(await self._ask(Call(messages=(message,), schema=SCHEMA)))
        try:
            found = next(iter(json_objects(said)), None)
        except Unreadable:
            found = None
        without = f"set {_settings(roles, 'json_schema=false')}"
        if found is None:
            do = "the role needs a model that can write JSON, or a server that enforces a schema"
            return self._look(what, "not at all: the answer holds no JSON", "bad", do)
        if not self._trial.settings.json_schema:
            return self._look(what, "parsed; not enforced, as json_schema=false says")
        if "response_format" in self._left_out:
            return self._look(what, "only parsed: the server takes no schema", "warning", without)
        if found.get("answer") in SCHEMA["properties"]["answer"]["enum"] and len(found) == 1:
            return self._look(what, "enforced")
        do = f"{without}, or let the server enforce schemas; unreadable replies are asked for again"
        return self._look(what, "only parsed: the server ignores the schema", "warning", do)

    async def _several(self) -> Look:
        what = "several completions"
        if not self._trial.several:
            return self._look(what, "not needed: one answer at a time is asked for")
        if not self._trial.asks_several:
            return self._look(what, "asked for one by one, as multiple=false says")
        message = Message("user", "Name a colour, in one word.")
        done = await self._ask(Call(messages=(message,), n=SEVERAL))
        if len(done.texts) == SEVERAL:
            return self._look(what, "honoured: one request brings all rewrites")
        how = "is refused" if "n" in self._left_out else f"brings {len(done.texts)} of {SEVERAL}"
        do = f"set {_settings(('rewriter',), 'multiple=false')}, to save a request a run"
        return self._look(what, f"`n` {how}: rewrites are asked for one by one", "warning", do)

    async def _long(self) -> Look:
        """FAULTS M13: some servers cut what is too long for them, and say nothing."""
        what, word = "long prompt", _word()
        messages = _hidden(word, self._trial.long_tokens)
        size = sum(len(turn.content) for turn in messages)
        try:
            done = await self._ask(Call(messages=messages))
        except TransportError as problem:
            if problem.ended is None:
                raise
            said = f"refused, and not cut: about {self._trial.long_tokens:,} tokens are too many"
            return self._look(what, said, "warning", f"{LONGER}, or a model with a larger context")
        counted, found = done.prompt_tokens, word in _said(done).casefold()
        if counted is not None and counted < size / CUT_BELOW:
            said = (
                f"cut silently: of about {self._trial.long_tokens:,} tokens {counted:,} were read"
            )
            return self._look(what, said, "bad", LONGER)
        if found:
            tokens = f"{counted:,}" if counted else f"about {self._trial.long_tokens:,}"
            return self._look(what, f"read from its first word on, {tokens} tokens")
        if not self._heeds:
            said = "cannot be told: the model does not repeat a word from a short prompt either"
            return self._look(what, said, "warning", "look at the server's log for cut prompts")
        said = "its first word was not found: the server may cut long prompts silently"
        return self._look(what, said, "warning", LONGER)


_ASKED = ("structured output", "several completions", "long prompt")


def _hidden(word: str, tokens: int) -> tuple[Message, ...]:
    """A question for a word at the beginning of about so many tokens; also for a base model."""
    lines = [f"The secret word is {word}."]
    length = 0
    while length < tokens * CHARACTERS_PER_TOKEN:
        lines.append(f"Note {len(lines)}: this line says nothing, it only makes the text longer.")
        length += len(lines[-1]) + 1
    asked = "What is the secret word from the first line? Reply with that word alone."
    text = "\n".join([*lines, "", asked, "The secret word is:"])
    return (Message("system", "You answer in one word."), Message("user", text))


def _word() -> str:
    """No model knows it, and no server has the prompt cached that begins with it."""
    return "".join(secrets.choice(SYLLABLES) for _ in range(4))


def _said(done: Completion) -> str:
    """The answer without what the model thought."""
    return apart(done.texts[0])[1].strip() if done.texts else ""


def _address(settings: Tried) -> str:
    """Without what somebody may have put before the host or after the path."""
    if isinstance(settings, LocalSettings):
        return "none: it runs in this process"
    if isinstance(settings, LangchainSettings):
        return settings.target_
    if isinstance(settings, HFEndpointSettings):
        return settings.base_url or "the Hugging Face hub"
    for name in OTHER_SERVER:
        if settings.base_url is None and os.environ.get(name):
            shown = re.sub(r"//[^/@]*@", "//", os.environ[name]).partition("?")[0]
            return f"{shown} (from {name})"
    return settings.base_url or "api.openai.com"

"""`drpo chat`: a conversation with an aligned model in a terminal.

What the model says has no effect on the terminal. Nothing of it is written anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from drpo.aligned import AlignedModel
from drpo.graph.errors import BadInput, DrpoError
from drpo.models.turns import storable
from drpo.wording import SHORT_ID, one_line, plain

HELP = "/why shows what the last answer came from, /new starts over, /quit or Ctrl-D ends."
INDENT = "  "

Write = Callable[[str], None]


class Chat:
    """One conversation."""

    def __init__(self, model: AlignedModel, write: Write) -> None:
        """`write` shows text as it is; what a model said is made plain before."""
        self._model = model
        self._write = write
        self._turns: list[BaseMessage] = []
        self._asked: Sequence[BaseMessage] = ()
        """What the last answer answered."""

    def new(self) -> None:
        """Forgets all of it."""
        self._turns, self._asked = [], ()

    async def answer(self, text: str) -> None:
        """Asks, shows the answer as it comes, and keeps both.

        What is stopped in the middle is kept as far as it was shown. Raises DrpoError.
        """
        asked = [*self._turns, HumanMessage(storable(text))]
        said = ""
        try:
            source: Any = self._model.astream(asked)
            async with aclosing(source) as bits:
                async for bit in bits:
                    heard = storable(str(bit.text))
                    said += heard
                    self._write(plain(heard))
        finally:
            if said:
                self._turns, self._asked = [*asked, AIMessage(said)], asked
                self._write("\n")
        if not said:
            self._write("(no answer)\n")

    async def why(self) -> None:
        """Shows the prompt and the examples that the last answer came from."""
        if not self._asked:
            self._write("There is no answer yet.\n")
            return
        for line in _reasons(self._model, await self._model.amessages(self._asked), self._asked):
            self._write(plain(line) + "\n")


def _reasons(
    model: AlignedModel, sent: Sequence[BaseMessage], asked: Sequence[BaseMessage]
) -> Iterator[str]:
    found = model.artifact.provenance
    yield f"The prompt of candidate {found.found.candidate}, run {found.run_id[:SHORT_ID]}:"
    if len(sent) <= len(asked):
        # A base model is sent one text.
        for turn in sent:
            yield from _indented(str(turn.text))
        return
    head = [str(each.text) for each in sent[: len(sent) - len(asked)]]
    yield from _indented(head[0])
    if len(head) == 1:
        yield "No examples."
    for number, at in enumerate(range(1, len(head), 2), 1):
        yield f"Example {number}:"
        yield from _indented(head[at])
        yield f"{INDENT}->"
        yield from _indented("\n".join(head[at + 1 : at + 2]))


def _indented(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"{INDENT}{line}"


def once(model: AlignedModel, text: str, write: Write) -> None:
    """One question, one answer. Raises DrpoError; BadInput where nothing is asked."""
    if not text.strip():
        raise BadInput("-m: there is nothing to answer in it")
    asyncio.run(Chat(model, write).answer(text))


def converse(model: AlignedModel, ask: Callable[[], str], write: Write) -> None:
    """Until `ask`, which reads what a person types, raises EOFError."""
    chat = Chat(model, write)
    with asyncio.Runner() as runner:
        while True:
            try:
                typed = ask().strip()
            except EOFError:
                return
            except UnicodeDecodeError:
                write("That is not UTF-8.\n")
                continue
            except KeyboardInterrupt:
                write(f"\n{HELP}\n")
                continue
            if typed == "/quit":
                return
            try:
                _turn(chat, typed, runner, write)
            except KeyboardInterrupt:
                write("(stopped)\n")
            except DrpoError as error:
                write(f"drpo: {one_line(str(error))}\n")


def _turn(chat: Chat, typed: str, runner: asyncio.Runner, write: Write) -> None:
    if typed == "/why":
        runner.run(chat.why())
    elif typed == "/new":
        chat.new()
        write("A new conversation.\n")
    elif typed.startswith("/"):
        write(f"There is no {plain(typed.split(maxsplit=1)[0])}. {HELP}\n")
    elif typed:
        runner.run(chat.answer(typed))

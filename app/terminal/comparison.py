"""What `drpo show A --view diff B` prints: sentences, scores, settings, readable at 80 columns.

Whatever a model wrote is shown as plain text. `[-...-]` marks words that are gone, `{+...+}` new
ones.
"""

from __future__ import annotations

import json

from drpo.comparison import Change, Compared, Comparison, PromptChanges, Scores
from drpo.terminal.printing import Page
from drpo.wording import SHORT_ID, SIMULATED, counted, dollars, scored, shortened, so_far

LONGEST_QUERY = 110
MOST_QUERIES = 20
LONGEST_SETTING = 60
_SIGNS = {"kept": " ", "changed": "~", "added": "+", "removed": "-"}


def print_comparison(told: Comparison) -> None:
    """Both sides, then what is different."""
    say = Page()
    a, b = told["a"], told["b"]
    if (a["run_id"], a["candidate"]) == (b["run_id"], b["candidate"]):
        say(_same(b))
        return
    for name, side in (("A", a), ("B", b)):
        say(f"{name}  {_side(side)}")
    if a["simulated"] or b["simulated"]:
        say(f"({SIMULATED})")
    for name, prompt in told["prompts"].items():
        say()
        _say_prompt(say, name, prompt)
    say()
    _say_scores(say, told["scores"])
    if a["run_id"] != b["run_id"]:
        say()
        _say_runs(say, told)


def _same(side: Compared) -> str:
    what = ", ".join(dict.fromkeys((side["origin"], _what(side))))
    return (
        f"Nothing to compare: both sides are candidate {side['candidate']} ({what}) of run "
        f"{side['run_id'][:SHORT_ID]}. `--view tree` has the others."
    )


def _what(side: Compared) -> str:
    if not side["deployed"] and not side["best"]:
        return str(side["origin"])
    return f"{'deployed' if side['deployed'] else 'best'}{so_far(side['status'])}"


def _side(side: Compared) -> str:
    value = scored(side["path_value"], 3)
    return (
        f"run {side['run_id'][:SHORT_ID]}, candidate {side['candidate']} ({_what(side)}, level "
        f"{side['level']}), reward {scored(side['reward'])}, path value {value}"
    )


def _say_prompt(say: Page, name: str, prompt: PromptChanges) -> None:
    counts = ", ".join(f"{count} {kind}" for kind, count in prompt["counts"].items())
    say(f"Prompt {name!r} by sentence, from A to B: {counts}")
    for each in prompt["sentences"]:
        text = _marked(each) if each["kind"] == "changed" else each["after"] or each["before"] or ""
        say(text, indent=2, mark=f"{_SIGNS[each['kind']]} ")


def _marked(sentence: Change) -> str:
    marks = {"kept": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
    return "".join(marks[piece["kind"]].format(piece["text"]) for piece in sentence["pieces"])


def _say_scores(say: Page, scores: Scores) -> None:
    answered = scores["answered"]
    if scores["of_paths"]:
        say("Scores are those of both best paths, the roots not counted.")
    if not scores["queries"]:
        say(
            f"No query in common: A was asked {answered['a']}, B {answered['b']}. Levels differ in "
            "queries, so their rewards cannot be compared."
        )
        return
    say(
        f"Rewards (1-5) on the {counted(len(scores['queries']), 'query')} that both answered, of "
        f"{answered['a']} that A answered and {answered['b']} that B did:"
    )
    rows = [
        [
            shortened(each["text"], LONGEST_QUERY) + ("" if each["same_selection"] else " *"),
            scored(each["a"]),
            scored(each["b"]),
            "-" if each["difference"] is None else f"{each['difference']:+.2f}",
        ]
        for each in scores["queries"][:MOST_QUERIES]
    ]
    say.table(("query", "A", "B", "B - A"), rows)
    if len(scores["queries"]) > MOST_QUERIES:
        say(f"... and {len(scores['queries']) - MOST_QUERIES} more (--json has all)", indent=2)
    if scores["compared"]:
        say(
            f"Mean over {counted(scores['compared'], 'query')}: A {scored(scores['a'])}, B "
            f"{scored(scores['b'])}, difference {scores['difference']:+.2f}. Not tested "
            "for significance."
        )
    if scores["unscored"]:
        say(f"Unscored on one side, so not in the mean: {counted(scores['unscored'], 'query')}.")
    if scores["other_selection"]:
        other = counted(scores["other_selection"], "query")
        say(f"* Other aspects were chosen for it, so it is not in the mean: {other}.")


def _say_runs(say: Page, told: Comparison) -> None:
    """What two runs have otherwise."""
    a, b = told["a"]["cost"], told["b"]["cost"]
    rows = [
        ["calls", f"{a['calls']:,}", f"{b['calls']:,}"],
        ["tokens", f"{a['tokens']:,}", f"{b['tokens']:,}"],
        ["dollars", _cost(a["cost_usd"]), _cost(b["cost_usd"])],
        ["seconds", f"{a['seconds']:.1f}", f"{b['seconds']:.1f}"],
    ]
    say.table(("took", "A", "B"), rows)
    say()
    if not told["settings"]:
        say("Their settings are the same.")
        return
    say("Settings that differ:")
    rows = [
        [each["setting"], _setting(each["a"]), _setting(each["b"])] for each in told["settings"]
    ]
    say.table(("setting", "A", "B"), rows, texts=(0, 1, 2))


def _setting(value: object) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), LONGEST_SETTING)


def _cost(dollars_: float | None) -> str:
    return "unknown" if dollars_ is None else dollars(dollars_)

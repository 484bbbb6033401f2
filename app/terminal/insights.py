"""What `drpo show --view insights` prints: tables and texts, readable at 80 columns.

Whatever a model wrote is shown as plain text, and only its beginning; `--json` has all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drpo.analysis.documents import (
    AspectFigures,
    Difference,
    Figures,
    HardQuery,
    Insights,
    RunInsights,
)
from drpo.analysis.instructions import BeforeAfter, Lead
from drpo.terminal.printing import Page
from drpo.wording import SHORT_ID, SIMULATED, called, counted, scored, shortened

LONGEST = 220
"""Characters of a rationale, an instruction or a query that are shown."""
MOST_EXPLAINED = 5
"""Aspects whose rationales and instructions are shown."""
MOST_HARD = 5
"""Queries that stay hard which are shown."""


def print_insights(told: Insights) -> None:
    """Run by run, then side by side, then what the figures do not say."""
    say = Page()
    for run in told["runs"]:
        _say_run(say, run, told["low_below"])
    if told["shared"]:
        _say_shared(say, told)
    say("Note:")
    for caution in told["cautions"]:
        say(caution, indent=2)


def _say_run(say: Page, run: RunInsights, low: float) -> None:
    models = run["models"]
    say(f"Run {run['run_id']}: {run['status']}; target {models['target']}, judge {models['judge']}")
    if run["simulated"]:
        say(f"({SIMULATED})")
    if not run["verdicts"]:
        say("Nothing of it was judged yet." if not run["left_out"] else _only_others(run))
        say()
        return
    say(
        f"{counted(run['verdicts'], 'verdict')} on {counted(run['candidates'], 'candidate')} and "
        f"{counted(run['queries'], 'query')}{_others(run)}."
    )
    for reason in run["unscored"]:
        why = shortened(reason["reason"], LONGEST)
        say(f"Unscored: {counted(reason['verdicts'], 'verdict')}: {why}", indent=2)
    say()
    if run["aspects"]:
        say(
            f"Aspects, the weakest first: mean score (1-5) and share of scores below {low:g}, both "
            "averaged per query first, with 95 % intervals over queries; of root and best path the "
            "mean, with its number of queries."
        )
        titles = ("aspect", "queries", "mean", "95 %", "low", "95 %", "root", "path")
        say.table(titles, [_aspect_row(each) for each in run["aspects"]])
        _say_gaps(say, run["aspects"])
    weak = [each for each in run["aspects"] if each["all"]["low"]]
    for each in weak[:MOST_EXPLAINED]:
        _say_weakness(say, each, run["status"])
    _say_hard(say, run["hard"], low)
    say()


def _only_others(run: RunInsights) -> str:
    return (
        f"It has no search for a prompt: its {run['left_out']:,} verdicts are of other searches, "
        "and tell nothing of the target."
    )


def _others(run: RunInsights) -> str:
    if not run["left_out"]:
        return ""
    return (
        f", of the search for the prompt; {run['left_out']:,} more, of examples and of validation, "
        "are not counted"
    )


def _aspect_row(aspect: AspectFigures) -> list[str]:
    found = aspect["all"]
    return [
        aspect["aspect"],
        str(found["queries"]),
        scored(found["mean"]),
        _range(found["mean_interval"], "{:.2f}"),
        _percent(found["low_share"]),
        _percents(found["low_share_interval"]),
        _with_queries(aspect["root"]),
        _with_queries(aspect["path"]),
    ]


def _say_gaps(say: Page, aspects: Sequence[AspectFigures]) -> None:
    """Aspects that the judge left out: no low scores, and in no mean."""
    gaps = [(each["aspect"], each["all"]["unscored"]) for each in aspects]
    said = [f"{name} {counted(count, 'time')}" for name, count in gaps if count]
    if said:
        say(f"Not scored by the judge, so in no figure: {', '.join(said)}.", indent=2)


def _say_weakness(say: Page, aspect: Mapping[str, Any], status: str) -> None:
    said, answered = aspect["rationales"], aspect["answered"]
    say()
    low = aspect["all"]["low"]
    some = "" if said["grouped"] == low else f" ({said['grouped']:,} of them grouped)"
    say(f"{aspect['aspect']}: what was said of {counted(low, 'low score')}{some}")
    for group in said["groups"]:
        of = f"{group['scores']}, of {counted(group['queries'], 'query')}"
        say(f"{of}: {shortened(group['text'], LONGEST)}", indent=2)
    if answered is None:
        return
    found = ". Of what they added, closest in words:" if answered["instructions"] else "."
    parents, rewrites = counted(answered["parents"], "parent"), answered["children"]
    of = f"Low under {parents}, with {counted(rewrites, 'rewrite')}"
    say(f"{of}: {_before_after(answered)}{found}", indent=2)
    for each in answered["instructions"]:
        stays = f", stands in the {called(None, status)}" if each["in_best"] else ""
        say(shortened(each["text"], LONGEST), indent=4)
        say(
            f"in {counted(each['children'], 'rewrite')} of {counted(each['parents'], 'parent')}"
            f"{stays}: {_before_after(each)}{_lead(each)}",
            indent=6,
        )


def _before_after(figures: BeforeAfter) -> str:
    if not figures["scored"]:
        return "not scored (their queries have other aspects)"
    return f"{scored(figures['before'])} -> {scored(figures['after'])} ({figures['scored']} judged)"


def _lead(each: Lead) -> str:
    if not each["compared"]:
        return ""
    return f", {each['lead']:+.2f} against siblings without it ({each['compared']} compared)"


def _say_hard(say: Page, hard: Sequence[HardQuery], low: float) -> None:
    if not hard:
        return
    say()
    shown = f", the first {MOST_HARD}" if len(hard) > MOST_HARD else ""
    say(
        f"{counted(len(hard), 'query')} stayed hard, with a mean reward of all answers below "
        f"{low:g}{shown}"
    )
    for each in hard[:MOST_HARD]:
        weakest = each["weakest"]
        say(
            f"{scored(each['mean'])} over {each['candidates']} candidates, best "
            f"{scored(each['best'])}, weakest {weakest['aspect']} {scored(weakest['mean'])}: "
            f"{shortened(each['text'], LONGEST)}",
            indent=2,
        )


def _say_shared(say: Page, told: Insights) -> None:
    """A column of means a run, and the differences of the others to the first."""
    runs = told["runs"]
    say("Side by side: means of the aspects that runs share, and differences to the first")
    names = [run["run_id"][:SHORT_ID] for run in runs]
    for name, run in zip(names, runs, strict=True):
        say(f"{name}  {run['models']['target']}", indent=2)
    titles = ["aspect", *names]
    for name in names[1:]:
        titles += [f"{name} - {names[0]}" if len(names) > 2 else "difference", "95 %"]  # noqa: PLR2004 - two runs have one difference
    rows = []
    for each in told["shared"]:
        row = [each["aspect"], *("-" if of is None else _with_queries(of) for of in each["runs"])]
        for found in each["differences"]:
            row += ["-", "-"] if found is None else [f"{found['mean']:+.2f}", _signed(found)]
        rows.append(row)
    say.table(titles, rows)
    say()


def _with_queries(figures: Figures) -> str:
    return "-" if figures["mean"] is None else f"{figures['mean']:.2f} ({figures['queries']})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _percents(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else "-".join(f"{100 * each:.0f}" for each in interval)


def _range(interval: Sequence[float] | None, form: str) -> str:
    return "-" if interval is None else "-".join(form.format(each) for each in interval)


def _signed(found: Difference) -> str:
    interval = found["interval"]
    return "-" if interval is None else f"{interval[0]:+.2f} {interval[1]:+.2f}"

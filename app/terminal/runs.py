"""Prints runs for people and machines: summary, tree, trace, JSON.

Whatever a model wrote is shown as plain text: control characters and markup have no effect.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from drpo.commands import drpo_command, resume_command, where
from drpo.terminal.alignment import say_alignment, say_examples
from drpo.terminal.printing import Lines, Page
from drpo.wording import SHORT_ID, SIMULATED, called, counted, dollars, escaped, scored, so_far

if TYPE_CHECKING:
    from drpo.checkpoints.doctor import Finding

LONGEST_LOOK = len("several completions")
_STATES = {"ok": "ok", "warning": "WARN", "bad": "BAD"}


def print_json(value: object) -> None:
    """As JSON on standard output, what a terminal would act on being escaped."""
    told = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    typer.echo(escaped(told))


def print_with_nodes(told: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> None:
    """As `print_json`, with the candidates one a line: indenting thousands takes seconds."""
    head = json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False).removesuffix("\n}")
    sys.stdout.write(f'{escaped(head)},\n  "candidates": [')
    encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    for at, node in enumerate(nodes):
        sys.stdout.write(f"{',' if at else ''}\n    {escaped(encoded(node))}")
    sys.stdout.write("\n  ]\n}\n")


def print_runs(told: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """One line a run."""
    if not told:
        typer.echo(f"There are no runs in {str(folder)!r}; `drpo optimize` makes one.")
        return
    rows = [
        [
            run["run_id"][:SHORT_ID],
            run["status"],
            str(run["level"]),
            scored(run["best"]["path_value"] if run["best"] else None, 3),
            f"{_new_calls(run):,}",
            run["created_at"][:16].replace("T", " "),
        ]
        for run in told
    ]
    titles = ("run", "status", "levels", "path value", "calls", "made")
    Page().table(titles, rows, texts=(0, 1, 3, 5), margin=0, gap=2)


def print_estimate(told: Mapping[str, Any], models: Mapping[str, str]) -> None:
    """An estimate, one row a role."""
    rows = []
    for role, taking in [*told["roles"].items(), ("total", told["total"])]:
        calls, cost = taking["calls"], taking["cost_usd"]
        tokens = taking["prompt_tokens"]["expected"] + taking["completion_tokens"]["expected"]
        rows.append(
            [
                role,
                models.get(role, ""),
                *(f"{calls[name]:,}" for name in ("low", "expected", "high")),
                f"{tokens:,}",
                "unknown" if cost is None else dollars(cost["expected"]),
            ]
        )
    titles = ("role", "model", "least calls", "expected", "most", "tokens", "dollars")
    Page().table(titles, rows, texts=(0, 1), margin=0, gap=2)


def forecast(told: Mapping[str, Any]) -> str:
    """Calls and dollars of an estimate, in a line."""
    calls, cost = told["total"]["calls"], told["total"]["cost_usd"]
    said = f"about {calls['expected']:,} model calls, at most {calls['high']:,}"
    if cost is None:
        return f"{said}; what they cost is unknown"
    return f"{said}, for about {dollars(cost['expected'])}, probably below {dollars(cost['high'])}"


def print_summary(told: Mapping[str, Any], folder: Path) -> None:
    """The prompt, how its path value came about, what it took, and what to type next."""
    say = Lines()
    say(f"Run {told['run_id']}: {told['status']}{_because(told['reason'])}")
    if told["parent"]:
        say(f"(a fork of run {told['parent']})")
    if told["simulated"]:
        say(f"({SIMULATED})")
    if told["world"]:
        world = told["world"]
        name = f"{world['world']}, profile {world['profile']}, seed {world['seed']}"
        say(f"World {name}, sha256 {world['sha256'][:12]}")
    if told["deployed"] is not None:
        _say_deployed(say, told["deployed"], told["status"])
    elif told["kind"] != "examples":
        _say_best(say, told)
    if told["kind"] != "search":
        say()
        say_alignment(say, told)
    say()
    _say_calls(say, told)
    say()
    for word in _next(told, folder):
        say(word)


def _say_best(say: Lines, told: Mapping[str, Any]) -> None:
    best = told["best"]
    if best is None:
        say("No level is finished yet.")
        return
    say()
    what = called(None, told["status"]).capitalize()
    say(f"{what} (candidate {best['candidate']}, path value {scored(best['path_value'], 3)}):")
    _say_prompts(say, best["prompts"])
    if told["kind"] == "align":
        return
    say()
    rewards = "one reward" if _scored(best) == 1 else f"{_scored(best)} rewards"
    say(f"The path value is the mean of the {rewards} on its path (1-5):")
    for step in best["path"]:
        reward = "unscored" if step["reward"] is None else f"{step['reward']:.2f}"
        note = ", not counted" if step["level"] == 0 else ""
        place = f"level {step['level']:>3}  candidate {step['candidate']:>4}"
        say(f"  {place}  {reward}  {step['origin']}{note}")


def _say_deployed(say: Lines, deployed: Mapping[str, Any], status: str) -> None:
    say()
    shown = "with examples" if deployed["with_examples"] else "without examples"
    say(f"{called(deployed, status).capitalize()} (candidate {deployed['candidate']}, {shown}):")
    _say_prompts(say, deployed["prompts"])
    if deployed["real"] is None:
        say("Whether its gain over the root is real is not known before the run is resumed.")


def _say_calls(say: Lines, told: Mapping[str, Any]) -> None:
    """What was asked, what it took, and what came of it."""
    say(f"{_calls_line(told)}.")
    if told["estimate"]:
        say(f"{_held(told)}.")
    if told["unscored"]:
        say(f"{counted(told['unscored'], 'answer')} could not be scored; `--view trace` says why.")
    for role, outcomes in told["outcomes"].items():
        ended = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items())
        say(f"Calls of the {role} that did not succeed: {ended}.")
    if told["failed_attempts"]:
        say(f"{counted(told['failed_attempts'], 'request')} got no usable reply.")
    for role, parameters in told["left_out"].items():
        say(f"The server of the {role} is asked without {', '.join(parameters)}.")


def print_tree(told: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> None:
    """Every candidate, level by level, below the header of the run."""
    say = Lines()
    say(f"Run {told['run_id']}: {told['status']}{_because(told['reason'])}")
    for level in sorted({node["level"] for node in nodes}):
        say(f"level {level}")
        for node in (each for each in nodes if each["level"] == level):
            rank = "kept " if node["beam_rank"] is not None else "     "
            parent = "" if node["parent"] is None else f" from {node['parent']}"
            say(
                f"  {rank}#{node['candidate']} {node['origin']}{parent}: reward "
                f"{scored(node['reward'], 3)}, path value {scored(node['path_value'], 3)}"
            )


def print_examples(told: Mapping[str, Any]) -> None:
    """Every example, below the header of the run."""
    say = Lines()
    say(f"Run {told['run_id']}: {told['status']}{_because(told['reason'])}")
    say_examples(say, told["examples"])


def print_trace(told: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> None:
    """Every candidate with all that led to it."""
    say = Lines()
    say(f"Run {told['run_id']}: {told['status']}{_because(told['reason'])}")
    judged: dict[int | None, Sequence[Mapping[str, Any]]] = {}
    for node in nodes:
        judged[node["candidate"]] = node["verdicts"]
        _say_node(say, node, judged.get(node["parent"], ()))


def _say_node(say: Lines, node: Mapping[str, Any], led_by: Sequence[Mapping[str, Any]]) -> None:
    parent = "" if node["parent"] is None else f" of candidate {node['parent']}"
    say()
    say(f"== candidate {node['candidate']}, level {node['level']}: {node['origin']}{parent}")
    if led_by:
        say("   led by the verdicts on its parent:")
        for verdict in led_by:
            _say_verdict(say, verdict)
    say("   prompt:")
    _say_prompts(say, node["prompts"], indent="     ")
    for selection in node["selections"]:
        names = ", ".join(aspect["name"] for aspect in selection["aspects"]) or "none"
        say(f"   selection for {selection['query']}: {names}")
        say(f"     because: {selection['reason']}{_asked(selection['call'])}")
        for note in selection["notes"]:
            say(f"     note: {note}")
    say("   verdicts:")
    for verdict in node["verdicts"]:
        _say_verdict(say, verdict)
    say(f"   reward {scored(node['reward'], 3)}, path value {scored(node['path_value'], 3)}")
    for decision in node["decisions"]:
        say(f"   {decision}")
    for rewrite in node["rewrites"]:
        if rewrite["refused"]:
            say(f"   rewrite {rewrite['item']} of it {rewrite['refused']}: {rewrite['reason']}")
    tokens = sum(call["tokens"] for call in node["calls"])
    roles = ", ".join(f"{call['role']} {call['key'][:SHORT_ID]}" for call in node["calls"])
    say(f"   cost: {len(node['calls'])} calls, {tokens:,} tokens ({roles or 'none'})")


def _say_verdict(say: Lines, verdict: Mapping[str, Any]) -> None:
    reward = scored(verdict["reward"], 3)
    say(f"     {verdict['query']}: reward {reward}{_because(verdict['unscored'])}")
    for score in verdict["scores"]:
        value = f"{score['value']:g}" if score["value"] is not None else "-"
        said = score["unscored"] or score["rationale"]
        say(f"       {score['aspect']} {value}: {said}")
    for note in verdict["notes"]:
        say(f"       note: {note}")


def _say_prompts(say: Lines, prompts: Mapping[str, str], indent: str = "  ") -> None:
    for name, text in prompts.items():
        if len(prompts) > 1:
            say(f"{indent}[{name}]")
        for row in text.splitlines() or [""]:
            say(f"{indent}{row}")


def print_review(told: Mapping[str, Any], beam: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The survivors of a level, and what a person can do about them."""
    say = Lines()
    say(f"Run {told['run_id']}: level {told['level'] - 1} is finished. Its survivors, best first:")
    for node in beam:
        value, reward = scored(node["path_value"], 3), scored(node["reward"], 3)
        say()
        say(f"#{node['candidate']}, path value {value}, reward {reward}, {node['origin']}:")
        _say_prompts(say, node["prompts"])
    say()
    resume = resume_command(told["run_id"], folder)
    say(f"{_calls_line(told)}.")
    say()
    say(f"Go on:                         {resume}")
    if len(beam) > 1:
        say(f"Without one of them:           {resume} --drop {beam[-1]['candidate']}")
    say(f"With your words in its place:  {resume} --edit {beam[0]['candidate']}=FILE")
    say(f"With one more prompt:          {resume} --add FILE")


def print_fork(told: Mapping[str, Any], folder: Path) -> None:
    """What was made, and what to type next."""
    say = Lines()
    say(f"Run {told['run_id']}: {told['reason']}.")
    say("Answers of its parent to the same questions are in its ledger and cost nothing.")
    say(f"Go on:  {resume_command(told['run_id'], folder)}")


def print_findings(path: Path, found: Iterable[Finding]) -> None:
    """One line a look."""
    say = Lines()
    say(str(path))
    for each in found:
        say(f"  {'ok ' if each.ok else 'BAD'}  {each.what}: {each.said}")


def print_checkup(looks: Sequence[Mapping[str, Any]]) -> None:
    """A list a model, and below it what to do about what is not well."""
    say, page = Lines(), Page()
    for (roles, model), rows in groupby(looks, key=itemgetter("roles", "model")):
        say(f"{', '.join(roles)}: {model}")
        for look in rows:
            mark = f"{_STATES[look['state']]:<5}  {look['what']:<{LONGEST_LOOK}}  "
            page(look["said"], indent=2, mark=mark)
    todo = [look for look in looks if look["do"]]
    if todo:
        say()
        say("What to do:")
    for look in todo:
        say(f"  {', '.join(look['roles'])}, {look['what']}: {look['do']}.")


def removal(told: Mapping[str, Any]) -> str:
    """What would be lost."""
    return (
        f"Run {told['run_id']} ({told['status']}, {_new_calls(told):,} paid calls, "
        f"made {told['created_at'][:10]})."
    )


def _next(told: Mapping[str, Any], folder: Path) -> list[str]:
    drpo, there = drpo_command(), where(folder)
    run = told["run_id"][:SHORT_ID]
    verbs = {"Go on": f"resume {run}"} if told["status"] != "done" else {}
    if told["status"] == "done":
        verbs["Every candidate"] = f"show {run} --view tree"
    verbs["Why each is there"] = f"show {run} --view trace"
    if told["best"] and told["kind"] != "examples":
        verbs["Why each sentence is"] = f"show {run} --view why"
    verbs["In a browser"] = f"view {run}"
    if told["status"] == "done" and told["kind"] == "align":
        verbs |= {"Talk to it": f"chat {run}", "Take it elsewhere": f"export {run} -o aligned.json"}
    typed = {what: f"{drpo} {verb}{there}" for what, verb in verbs.items()}
    if told["status"] == "done" and told["simulated"]:
        typed["With your own model"] = f"{drpo} init"
    width = max(map(len, typed))
    return [f"{f'{what}:':<{width + 1}} {command}" for what, command in typed.items()]


def _calls_line(told: Mapping[str, Any]) -> str:
    calls = ", ".join(f"{role} {count['new']:,}" for role, count in told["calls"].items())
    ledger = sum(count["from_ledger"] for count in told["calls"].values())
    tokens = told["tokens"]["prompt"] + told["tokens"]["completion"]
    cost = "cost unknown" if told["cost_usd"] is None else f"${told['cost_usd']:.4f}"
    about = "about " if told["tokens"]["estimated"] else ""
    return (
        f"{_new_calls(told):,} model calls ({calls}), {ledger:,} more answered by the ledger; "
        f"{about}{tokens:,} tokens, {cost}, {told['seconds']:.1f} s"
    )


def _held(told: Mapping[str, Any]) -> str:
    """The estimate beside what came of it."""
    calls, cost = told["estimate"]["total"]["calls"], told["estimate"]["total"]["cost_usd"]
    said = f"Estimated {calls['expected']:,} calls ({calls['low']:,} to {calls['high']:,})"
    took = f"took{so_far(told['status'])} {_new_calls(told):,}"
    if cost is not None and cost["high"]:
        said += f", {dollars(cost['expected'])}"
        took += "" if told["cost_usd"] is None else f", {dollars(told['cost_usd'])}"
    return f"{said}; {took}"


def _new_calls(told: Mapping[str, Any]) -> int:
    return sum(count["new"] for count in told["calls"].values())


def _scored(best: Mapping[str, Any]) -> int:
    return sum(1 for step in best["path"] if step["level"] > 0 and step["reward"] is not None)


def _asked(call: str | None) -> str:
    return f" (rewarder {call[:SHORT_ID]})" if call else ""


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""

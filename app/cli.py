"""The `drpo` command: reads arguments, hands over, prints, exits with a code that tells.

Exit codes: 0 done, 1 failed, 2 bad input, 3 paused, 4 budget reached, 5 a provider stopped the run.
Heavy packages are imported by the verb that needs them, so that `drpo --help` is fast.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import drpo
from drpo.quiet import starting

if TYPE_CHECKING:
    from collections.abc import Sequence


app = typer.Typer(
    name="drpo",
    help="Searches for the prompt under which a language model answers best.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Runs = Annotated[
    Path, typer.Option("--runs", envvar="DRPO_RUNS", metavar="DIR", help="Folder of the runs.")
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Your settings (default: ./drpo.yaml, if there)"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Run = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="Id of a run, or its beginning (default: the newest)"),
]
ArtifactOrRun = Annotated[
    str | None,
    typer.Argument(
        metavar="ARTIFACT", help="A file of drpo export, or a run (default: the newest run)"
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="NAME", help="Let it use this model, server, ..."),
]
Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; any but localhost needs a token.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 picks a free one.")]
Unasked = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paid calls.")]
Verbose = Annotated[
    int,
    typer.Option("-v", "--verbose", count=True, help="Print each event; -vv: each call, too."),
]
DEFAULT_RUNS = Path("runs")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why standard output may take no more."""
LARGEST_ID = 2**63 - 1
"""That SQLite takes."""
WITH_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
VERBS = (
    "init optimize align estimate resume fork replay runs show export report view chat serve"
    " doctor rm"
)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to.")] = Path(),
) -> None:
    """Write a drpo.yaml and a queries.jsonl to edit, and say what to type next."""
    from drpo.beginning import begin

    begin(folder)


@app.command(
    context_settings=WITH_OVERRIDES,
    epilog="Overrides are Hydra's: search=paper models=openai seed=1 root=@my_prompt.md; "
    "-m seed=1,2,3 runs several; --cfg job shows the whole configuration.",
)
def optimize(
    context: typer.Context,
    config: Config = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
    yes: Unasked = False,
    verbose: Verbose = 0,
) -> None:
    """Search for the best prompt: drpo optimize [OVERRIDES]."""
    _launch(
        context.args, aligns=False, own=config, runs=runs, as_json=as_json, yes=yes, verbose=verbose
    )


@app.command(
    context_settings=WITH_OVERRIDES,
    epilog="Overrides are Hydra's, as of optimize; examples.limit=0 goes without examples.",
)
def align(
    context: typer.Context,
    config: Config = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
    yes: Unasked = False,
    verbose: Verbose = 0,
) -> None:
    """Examples, prompt, and a test whether the gain is real: drpo align [OVERRIDES]."""
    _launch(
        context.args, aligns=True, own=config, runs=runs, as_json=as_json, yes=yes, verbose=verbose
    )


def _launch(overrides: Sequence[str], **options: Any) -> None:
    with starting():
        from drpo.launch import run_hydra

        read_env()
        run_hydra(overrides, **options)


@app.command(context_settings=WITH_OVERRIDES)
def estimate(
    context: typer.Context,
    config: Config = None,
    # So that `optimize` can be put in its place in any command.
    _runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
    aligns: Annotated[bool, typer.Option("--align", help="Estimate drpo align.")] = False,
) -> None:
    """Tell what a search would take, without asking any model: drpo estimate [OVERRIDES]."""
    with starting():
        from drpo.forecast import tell

        read_env()
        tell(context.args, own=config, as_json=as_json, aligns=aligns)


@app.command()
def resume(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] [OVERRIDES]", help="e.g. 3f2a budget.calls=500"),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option("--edit", metavar="ID=FILE", help="In a review: replace it by your prompt."),
    ] = None,
    drop: Annotated[
        list[int] | None,
        typer.Option("--drop", metavar="ID", help="In a review: drop this candidate."),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option("--add", metavar="FILE", help="In a review: add a prompt."),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option("--trust", metavar="CLASS", help="Let the run import this model class."),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Go on with a run that was stopped or killed; budget.*, concurrency and a few may change."""
    name, overrides = _run_and_overrides(words)
    with starting():
        from drpo.api import going_on, resumable
        from drpo.checkpoints.runs import find_run
        from drpo.launch import run_to_end
        from drpo.prompt_files import read_changes

        read_env()
        changes = read_changes(edit or (), drop or (), add or ())
        stored = resumable(find_run(runs, name, say=_complain), overrides)
        begin = going_on(stored, changes, trust or ())
        run_to_end(stored, runs=runs, as_json=as_json, begin=begin, verbose=verbose)


@app.command()
def fork(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] [OVERRIDES]", help="e.g. 3f2a search.width=3"),
    ] = None,
    level: Annotated[
        int | None, typer.Option("--level", metavar="N", help="Go back to this level.")
    ] = None,
    candidate: Annotated[
        int | None, typer.Option("--candidate", metavar="ID", help="Continue from this one alone.")
    ] = None,
    edit: Annotated[
        Path | None,
        typer.Option("--edit", metavar="FILE", help="Replace the candidate's prompt by yours."),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Make another run out of one, from a level or candidate on; what is unchanged is free."""
    from drpo import fork as forks
    from drpo.checkpoints.reader import summary
    from drpo.checkpoints.runs import find_run
    from drpo.terminal.runs import print_fork, print_json

    name, overrides = _run_and_overrides(words)
    read_env()
    path = find_run(runs, name, say=_complain)
    made = forks.fork(path, level=level, candidate=candidate, edit=edit, overrides=overrides)
    told = summary(made.path)
    print_json(told) if as_json else print_fork(told, runs)


@app.command()
def replay(run: Run = None, runs: Runs = DEFAULT_RUNS) -> None:
    """Run a finished run again from its own answers, asking nobody, and compare the trees."""
    from drpo.checkpoints.runs import find_run
    from drpo.graph.errors import RunFailed

    with starting():
        from drpo import replay as replays

        found = replays.replay(find_run(runs, run, say=_complain))
    if not found.same:
        came = found.reason or f"the tree is now {found.replayed}"
        raise RunFailed(f"run {found.run_id} was {found.recorded[:12]}: {came}")
    typer.echo(f"Run {found.run_id}: the same tree, {found.recorded}")


@app.command()
def doctor(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] | [OVERRIDES]", help="A run, or settings: models=openai"),
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Try the models of your settings.")
    ] = False,
    config: Config = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Look for damage in a run's file; or, with settings or --models, try the models."""
    name, overrides = _run_and_overrides(words)
    if not (models or overrides or config):
        _examine(name, runs, as_json=as_json)
        return
    if name is not None:
        raise typer.BadParameter(f"a RUN or models, not both: {name!r} and settings")
    with starting():
        from drpo.checkup import tell

        read_env()
        tell(overrides, own=config, as_json=as_json)


def _examine(name: str | None, runs: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from drpo.checkpoints.doctor import examine
    from drpo.checkpoints.runs import find_file
    from drpo.graph.errors import RunFailed
    from drpo.terminal.runs import print_findings, print_json

    path = find_file(runs, name)
    found = examine(path)
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        print_findings(path, found)
    bad = [each for each in found if not each.ok]
    if bad:
        raise RunFailed(f"{path}: {bad[0].what}: {bad[0].said}")


@app.command()
def rm(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or its beginning.")],
    runs: Runs = DEFAULT_RUNS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a run's file, with every answer that was paid for."""
    from drpo.checkpoints.reader import summary
    from drpo.checkpoints.runs import find_run, remove_run
    from drpo.graph.errors import BadInput
    from drpo.terminal.runs import removal
    from drpo.wording import plain

    path = find_run(runs, run)
    if not yes:
        if not sys.stdin.isatty():
            raise BadInput("rm asks before it deletes; off a terminal it needs --yes")
        typer.echo(removal(summary(path, with_tree=False)), err=True)
        if not typer.confirm("Delete it?", default=False, err=True):
            raise BadInput("nothing was deleted")
    remove_run(path)
    typer.echo(plain(f"Deleted {path}."))


@app.command(name="runs")
def list_runs(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """List the runs of the folder, newest last."""
    from drpo.checkpoints.reader import summary
    from drpo.checkpoints.runs import run_files
    from drpo.graph.errors import BadInput
    from drpo.terminal.runs import print_json, print_runs

    files, told = run_files(runs), []
    unreadable = list(files.unreadable.values())
    for path in files.runs:
        try:
            told.append(summary(path, with_tree=False))
        except BadInput as error:
            unreadable.append(str(error))
    for each in unreadable:
        _complain(each)
    if as_json:
        print_json(told)
    else:
        print_runs(told, runs)


@app.command(
    epilog="insights takes several runs. diff takes one or two, each RUN or RUN:CANDIDATE, the "
    "second also :CANDIDATE of the same run; a single candidate is compared with its parent, a "
    "run with its root.",
)
def show(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Id of a run, or its beginning (default: the newest)"),
    ] = None,
    view: Annotated[
        Literal["summary", "tree", "trace", "examples", "why", "insights", "diff"],
        typer.Option(help="What to show."),
    ] = "summary",
    candidate: Annotated[
        int | None,
        typer.Option(
            "--candidate",
            metavar="ID",
            min=0,
            max=LARGEST_ID,
            help="why: explain this candidate's prompt.",
        ),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Show what a run found, in one of seven views.

    summary: the best prompt, and what it took.

    tree: every candidate; trace: why each is there; examples: those of an alignment.

    why: where each sentence of the prompt comes from, and which low scores led to it.

    insights: where the model is weak; diff: how two prompts differ.
    """
    from drpo import showing

    asked = showing.Asked(
        words=words or (), runs=runs, candidate=candidate, as_json=as_json, say=_complain
    )
    showing.show(view, asked)


@app.command()
def export(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Id of a run, or its beginning (default: the newest); or an artifact, FILE.json.",
        ),
    ] = None,
    form: Annotated[
        Literal["json", "text", "markdown", "openai", "langchain", "dpo", "otel"],
        typer.Option("--format", help="Format to write."),
    ] = "json",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="File to write (default: standard output)"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    query: Annotated[
        str | None,
        typer.Option("--query", metavar="TEXT", help="openai, langchain: examples for this query."),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", min=0, max=4, help="dpo: least difference of rewards.")
    ] = 0.5,
    include_harmful: Annotated[
        bool, typer.Option("--include-harmful", help="dpo: also queries tagged as harmful.")
    ] = False,
    otlp: Annotated[
        str | None,
        typer.Option(
            "--otlp",
            metavar="ADDRESS",
            help="otel: send it there, or to what OTEL_* says: env.",
        ),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="otel: include what was asked and answered.")
    ] = False,
    trust: Annotated[
        list[str] | None,
        typer.Option("--trust", metavar="NAME", help="Let it use this model or server."),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Write what a run found as an artifact, or for another tool: a prompt, a request, pairs."""
    from drpo.export import Form
    from drpo.export import export as write
    from drpo.settings import telemetry_settings

    read_env()
    telemetry = telemetry_settings(otlp, texts=texts)
    wanted = Form(
        form, query, margin, harmful=include_harmful, trusted=trust or (), telemetry=telemetry
    )
    write(wanted, run, runs=runs, out=out, force=force, say=_complain)


@app.command()
def chat(
    artifact: ArtifactOrRun = None,
    message: Annotated[
        str | None, typer.Option("-m", "--message", metavar="TEXT", help="Ask this, and end.")
    ] = None,
    trust: Trust = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Talk with the aligned model; /why shows the examples and the prompt of an answer."""
    with starting():
        from drpo.aligned import aligned
        from drpo.chat import HELP, converse, once
        from drpo.provenance import artifact_named
        from drpo.wording import plain

        read_env()
        found = artifact_named(artifact, runs, say=_complain)
        model = aligned(found, trusted=trust or ())
    with model:
        if message is not None:
            once(model, message, _write)
            return
        asks = sys.stdin.isatty()
        if asks:
            # Arrow keys and a history of what was typed; it is not there on every system.
            with suppress(ImportError):
                import readline  # noqa: F401 - importing it is what it takes
            typer.echo(f"The aligned {plain(found.target.model)}. {HELP}", err=True)
        converse(model, lambda: input("> " if asks else ""), _write)
        if asks:
            typer.echo(err=True)


@app.command()
def serve(
    artifact: ArtifactOrRun = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env",
            metavar="NAME",
            help="Variable with the token that clients send (default: DRPO_SERVE_TOKEN)",
        ),
    ] = None,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, help="Most requests answered at once.")
    ] = 64,
    per_minute: Annotated[
        int, typer.Option("--per-minute", min=1, help="Most requests taken in a minute.")
    ] = 600,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Print each request, without its texts.")
    ] = False,
    trust: Trust = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Serve the aligned model to any client of OpenAI's: change its base URL to this."""
    with starting():
        from drpo import serve as serving
        from drpo.aligned import aligned
        from drpo.loopback import Caps, token_for
        from drpo.provenance import artifact_named
        from drpo.wording import plain

        read_env()
        token = token_for(host, token_env, verb="serve")
        model = aligned(artifact_named(artifact, runs, say=_complain), trusted=trust or ())

    def heard(url: str) -> None:
        key = "any key" if token is None else "the token as key"
        typer.echo(f"{url} serves the aligned {plain(model.artifact.target.model)}; {key}")

    serving.serve(
        model,
        host=host,
        port=port,
        token=token,
        caps=Caps(in_flight=in_flight, per_minute=per_minute),
        heard=heard,
        say=_complain if verbose else None,
    )
    typer.echo("stopped")


@app.command()
def report(
    run: Run = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="File to write (default: RUN.html)"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Write a run as one HTML file to look into: tree, prompts, verdicts, calls, costs."""
    from drpo.checkpoints.runs import find_run
    from drpo.explorer.report import report as made
    from drpo.texts import refuse_to_replace, write_whole
    from drpo.wording import SHORT_ID, plain

    path = find_run(runs, run, say=_complain)
    to = out or Path(f"{path.stem[:SHORT_ID]}.html")
    refuse_to_replace(to, force=force)
    # As private as the run's file, of which it holds everything that can be read.
    write_whole(to, [made(path)], mode=0o600)
    typer.echo(plain(f"Wrote {to}: open it in a browser; it needs no network."))


@app.command()
def view(
    run: Run = None,
    host: Host = "127.0.0.1",
    port: Port = 8001,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env",
            metavar="NAME",
            help="Variable with the token that the page asks for (default: DRPO_VIEW_TOKEN)",
        ),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Look into the runs of the folder in a browser, also while they go on; changes nothing."""
    with starting():
        from drpo.checkpoints.runs import find_run
        from drpo.explorer.server import Viewed
        from drpo.graph.errors import BadInput
        from drpo.loopback import is_local_address, listening, token_for, until_stopped
        from drpo.wording import SHORT_ID

        read_env()
        token = token_for(host, token_env, verb="view")
        if runs.exists() and not runs.is_dir():
            raise BadInput(f"--runs: {str(runs)!r} is no folder")
        # Without a run the newest is shown, also one that is yet to be made.
        place = "" if run is None else f"#{find_run(runs, run).stem[:SHORT_ID]}"
        viewed = Viewed(runs, token=token, local=is_local_address(host))

    def heard(url: str) -> None:
        asks = "" if token is None else "; it asks for the token"
        typer.echo(f"{url}/{place} shows the runs of {str(runs)!r}{asks}; Ctrl-C ends it")

    until_stopped(listening(viewed.application(), host, port), heard)
    typer.echo("stopped")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"drpo {drpo.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; `arguments` are the process's own by default."""
    if sys.stdout is None:
        # Closed by the shell: what is shown goes nowhere, as with `print`.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_completion(words) if words[:1] == ["-sc"] else _exit_code(words))


def _exit_code(words: Sequence[str]) -> int:
    from drpo.graph.errors import DrpoError

    try:
        code: Any = app(list(words), standalone_mode=False)
        # What nobody reads shows here, not when the interpreter is gone.
        sys.stdout.flush()
    except typer.TyperException as error:
        _complain(f"{error.format_message()} (see `drpo --help`)")
        return error.exit_code
    except DrpoError as error:
        _complain(str(error))
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _complain("stopped")
        return 130
    except BrokenPipeError:
        # `drpo show | head`: nobody reads on.
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _drop_output()
        _complain(f"what is to be shown cannot be written: {error.strerror}")
        return 1
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Python would complain again at exit, of what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_and_overrides(words: Sequence[str] | None) -> tuple[str | None, list[str]]:
    names = [word for word in words or () if "=" not in word]
    if len(names) > 1:
        raise typer.BadParameter(f"one RUN at a time, not {' and '.join(names)}")
    return (names[0] if names else None), [word for word in words or () if "=" in word]


def _completion(words: list[str]) -> int:
    """The shell asks `drpo -sc query=bash` to complete a line; Hydra knows the overrides."""
    line = os.environ.get("COMP_LINE", "")
    verb, _, rest = line.removeprefix("drpo").lstrip().partition(" ")
    if verb not in ("optimize", "align", "estimate"):
        typer.echo(VERBS)
        return 0
    os.environ["COMP_LINE"] = f"drpo {rest}"
    return _exit_code(["optimize", *words])


def read_env() -> None:
    """Keys and the like out of ./.env; what the shell has set goes before it. Raises BadInput."""
    from dotenv import load_dotenv

    from drpo.graph.errors import BadInput

    try:
        load_dotenv(Path(".env"), override=False)
    except UnicodeDecodeError as error:
        raise BadInput(f".env: it is not UTF-8 (byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise BadInput(f".env: {error}") from None


def _write(text: str) -> None:
    """At once, as it is."""
    typer.echo(text, nl=False)


def _complain(text: str) -> None:
    from drpo.wording import one_line

    typer.echo(f"drpo: {one_line(text)}", err=True)

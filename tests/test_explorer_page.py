"""The Explorer in a real Chromium: keys, links, a run that goes on, and texts that attack it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from chromium import EXECUTABLE, Page, chromium

import drpo
from drpo.checkpoints import reader
from drpo.explorer.report import report
from drpo.explorer.server import Viewed
from drpo.loopback import listening

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed here")

ATTACK = (
    '</script><script>alert("script")</script><img src=x onerror=\'alert("image")\'>'
    '<svg onload=alert("svg")><a href="javascript:alert(1)">click</a><iframe src="//evil.example">'
    "<!-- ]]> <style>*{display:none}</style> {{7*7}} ${alert(2)} \u2028 \u202e "
    '"><base href="https://evil.example/"><form action="https://evil.example/"><input autofocus'
    " onfocus=alert(3)><details open ontoggle=alert(4)><template><plaintext>"
)
CHOSEN = "document.querySelector('#details h1')?.textContent"
DETAILS = "document.getElementById('details').innerText"
PANEL = "document.getElementById('panel').innerText"
LOST = "document.getElementById('lost').textContent"
CANDIDATES = "Number(document.getElementById('canvas').dataset.candidates)"
MOST_ELEMENTS = 3000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search on the sandbox."""
    runs = tmp_path_factory.mktemp("runs")
    return drpo.optimize_blocking("search=quick", "search.levels=4", runs=runs).path


@asynccontextmanager
async def reported(path: Path, folder: Path, place: str = "") -> AsyncIterator[Page]:
    """The page of a run's report, drawn."""
    file = folder / "report.html"
    file.write_text(report(path), encoding="utf-8")
    async with chromium() as page:
        await page.open(f"{file.as_uri()}#{place}")
        await page.until(CANDIDATES)
        yield page
        assert page.errors == []
        assert page.requests == [f"{file.as_uri()}"] or page.requests == [
            f"{file.as_uri()}#{place}"
        ]


def attacked(path: Path, folder: Path) -> Path:
    """A copy in which every text of a model, and every word of a person, is an attack."""
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(copy)) as db:
        given = {"attack": ATTACK}
        db.execute("update text set body = body || :attack", given)
        db.execute("update decision set reason = reason || :attack, action = action", given)
        db.execute("update selection set reason = reason || :attack", given)
        db.execute("update call set model = :attack, finish_reasons = json_array(:attack)", given)
        db.execute(
            "update verdict set scores = (select json_group_array(json_set(value, '$.aspect',"
            " :attack, '$.rationale', :attack)) from json_each(scores)),"
            " notes = json_array(:attack)",
            given,
        )
        db.execute("update query set messages = json_array(json_array('user', :attack))", given)
        db.execute("update query set tags = json_array(:attack), id = id || :attack", given)
        db.execute("update run set reason = :attack", given)
        db.commit()
    return copy


async def look_at_everything(page: Page, run: str) -> None:
    """Every page beside the tree, every candidate, every fold."""
    unfold = (
        "document.querySelectorAll('.fold:not(.open) > button').forEach((each) => each.click())"
    )
    for place in ("levels", "why", "insights", "run", "tree", "0", "1", "5"):
        await page.run(f"location.hash = '#{run}/{place}'")
        heading = "#details h1" if place.isdigit() else "#panel"
        await page.until(f"document.querySelector('{heading}')")
        if place.isdigit():
            await page.until(f"{CHOSEN} === 'Candidate {place}'")
        for _ in range(2):
            await page.run(unfold)
    await page.press("/")
    await page.write("script")
    await page.until("!document.getElementById('found').hidden")


async def test_i4_no_text_of_a_model_is_markup_or_script_in_a_report(
    run: Path, tmp_path: Path
) -> None:
    """Scripts, handlers, addresses and broken markup are shown as they are written."""
    async with reported(attacked(run, tmp_path), tmp_path) as page:
        await look_at_everything(page, run.stem)
        assert page.dialogs == []
        shown = await page.run("document.body.innerText")
        assert '<script>alert("script")</script>' in shown
        assert "\u202e" not in shown
        planted = "img, iframe, base, form[action], svg[onload], [onerror], plaintext, template"
        assert await page.run(f"document.querySelectorAll('{planted}').length") == 0
        links = (
            "[...document.querySelectorAll('a')].filter((a) => !a.hash || a.protocol !== 'file:')"
        )
        assert await page.run(f"{links}.length") == 0


async def test_i4_no_text_of_a_model_is_markup_or_script_when_served(
    run: Path, tmp_path: Path
) -> None:
    """And the page asks nobody but its own server."""
    attacked(run, tmp_path)
    async with (
        listening(Viewed(tmp_path).application(), "127.0.0.1", 0) as url,
        chromium() as page,
    ):
        await page.open(f"{url}/#{run.stem[:8]}")
        await page.until(CANDIDATES)
        await look_at_everything(page, run.stem)
        assert page.dialogs == []
        assert page.errors == []
        assert [each for each in page.requests if not each.startswith(url)] == []


async def test_the_page_follows_a_run_that_goes_on(tmp_path: Path) -> None:
    """What is new is drawn without a reload, and what is open stays open."""
    with pytest.raises(drpo.RunPaused):
        drpo.optimize_blocking("experiment=smoke", "search.review=true", runs=tmp_path)
    async with (
        listening(Viewed(tmp_path).application(), "127.0.0.1", 0) as url,
        chromium() as page,
    ):
        await page.open(url)
        before = await page.until(CANDIDATES)
        await page.run("location.hash = location.hash + '/0'")
        await page.until(f"{CHOSEN} === 'Candidate 0'")
        await drpo.resume(runs=tmp_path)
        await page.until(f"{CANDIDATES} > {before}")
        assert await page.run(CHOSEN) == "Candidate 0"
        assert sum(each.rstrip("/") == url for each in page.requests) == 1


async def test_a_link_opens_its_candidate(run: Path, tmp_path: Path) -> None:
    """By the beginning of the run's id; the picture shows where it is."""
    async with reported(run, tmp_path, f"{run.stem[:8]}/5") as page:
        await page.until(f"{CHOSEN} === 'Candidate 5'")
        said = "document.getElementById('said').textContent"
        assert (await page.until(said)).startswith("Candidate 5, level ")


async def test_arrows_walk_the_tree_and_escape_leaves_it(run: Path, tmp_path: Path) -> None:
    """To the child that was kept, back to the parent, along the level."""
    async with reported(run, tmp_path) as page:
        await page.press("ArrowRight")
        await page.until(f"{CHOSEN} === 'Candidate 0'")
        await page.press("ArrowRight")
        first = await page.until(f"{CHOSEN} !== 'Candidate 0' && {CHOSEN}")
        await page.press("ArrowDown")
        await page.until(f"{CHOSEN} !== '{first}'")
        await page.press("ArrowLeft")
        await page.until(f"{CHOSEN} === 'Candidate 0'")
        await page.press("Escape")
        await page.until("document.getElementById('details').hidden")


async def test_keys_search_help_and_turn_the_light(run: Path, tmp_path: Path) -> None:
    """`/` finds a sentence and who brought it, `?` shows the keys, `t` is light or dark."""
    async with reported(run, tmp_path) as page:
        await page.press("/")
        await page.write("#3")
        await page.until("document.querySelector('#found a b')?.textContent === '#3'")
        await page.press("Enter")
        await page.until(f"{CHOSEN} === 'Candidate 3'")
        await page.press("Escape")
        await page.press("?")
        assert await page.run("document.getElementById('help').open")
        await page.run("document.getElementById('help').close()")
        theme = "document.documentElement.dataset.theme"
        before = await page.run(theme)
        await page.run("document.activeElement.blur()")
        await page.press("t")
        assert {before, await page.run(theme)} == {"light", "dark"}


@asynccontextmanager
async def served(folder: Path, place: str = "") -> AsyncIterator[Page]:
    """The page over a folder of runs, drawn."""
    async with (
        listening(Viewed(folder).application(), "127.0.0.1", 0) as url,
        chromium() as page,
    ):
        await page.open(f"{url}/#{place}")
        await page.until(CANDIDATES)
        yield page
        assert page.errors == []


async def test_another_run_brings_nothing_of_the_one_before(run: Path, tmp_path: Path) -> None:
    """Neither its tab nor its candidate stays behind the header of the other."""
    (tmp_path / run.name).write_bytes(run.read_bytes())
    other = drpo.optimize_blocking("experiment=smoke", runs=tmp_path).path
    async with served(tmp_path, f"{run.stem}/why") as page:
        await page.until(f"{PANEL}.includes('Why each sentence')")
        await page.run(f"location.hash = '#{other.stem}/1'")
        await page.until(f"{CHOSEN} === 'Candidate 1'")
        name = await page.run("document.querySelector('#run-name code').textContent")
        assert name == other.stem[:8]
        assert await page.run(PANEL) == ""
        assert not await page.run("document.getElementById('tree').hidden")


@pytest.mark.parametrize("name", ["ffffffff/3", "dead/why", "__proto__/1", "%"])
async def test_a_link_to_no_run_says_so(run: Path, tmp_path: Path, name: str) -> None:
    """Instead of another run; the runs that are there can be chosen."""
    async with reported(run, tmp_path) as page:
        await page.run(f"location.hash = '#{name}'")
        await page.until(f"{PANEL}.includes('No such run')")
        await page.run("document.querySelector('#panel a').click()")
        await page.until("!document.getElementById('tree').hidden")
        assert await page.run(PANEL) == ""


@pytest.mark.parametrize(
    ("place", "said"), [("99", "no candidate 99"), ("constructor", "nothing named “constructor”")]
)
async def test_a_link_to_nothing_in_a_run_says_so(
    run: Path, tmp_path: Path, place: str, said: str
) -> None:
    """Where the candidate would be."""
    async with reported(run, tmp_path, f"{run.stem}/{place}") as page:
        await page.until(f"{DETAILS}.includes('{said}')")
        await page.press("Escape")
        await page.until("document.getElementById('details').hidden")


async def test_a_run_that_is_gone_and_comes_back_is_said(run: Path, tmp_path: Path) -> None:
    """The list of runs is the folder's, and the note goes with its cause."""
    file = tmp_path / run.name
    file.write_bytes(run.read_bytes())
    async with served(tmp_path) as page:
        file.unlink()
        await page.until(f"{LOST} === 'this run is no longer there'")
        assert await page.run("document.querySelectorAll('#runs a').length") == 0
        file.write_bytes(run.read_bytes())
        await page.until(f"{LOST} === ''")
        assert await page.run("document.querySelectorAll('#runs a').length") == 1


async def test_a_server_that_answers_again_is_believed(run: Path, tmp_path: Path) -> None:
    """That it does not answer is said until it does."""
    async with reported(run, tmp_path) as page:
        assert await page.run(LOST) == ""
    async with chromium() as page:
        async with listening(Viewed(run.parent).application(), "127.0.0.1", 0) as url:
            await page.open(url)
            await page.until(CANDIDATES)
        await page.until(f"{LOST} === 'the server does not answer'")
        port = int(url.rsplit(":", 1)[1])
        async with listening(Viewed(run.parent).application(), "127.0.0.1", port):
            await page.until(f"{LOST} === ''")


async def test_keys_of_the_tree_are_none_elsewhere(run: Path, tmp_path: Path) -> None:
    """The picture is as it was when the tree is seen again."""
    picture = "document.getElementById('canvas').toDataURL()"
    async with reported(run, tmp_path, f"{run.stem}/tree") as page:
        await page.until("performance.getEntriesByName('drawn').length")
        before = await page.run(picture)
        await page.press("2")
        await page.until(f"{PANEL}.includes('Levels')")
        for key in "+++---0-":
            await page.press(key)
        await page.press("1")
        await page.until(f"{picture} === '{before}'")


async def test_two_keys_at_once_are_both_done(run: Path, tmp_path: Path) -> None:
    """`1` opens the tree though `b` changes the link before it is followed."""
    press = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '%s', bubbles: true}))"
    async with reported(run, tmp_path, f"{run.stem}/why") as page:
        await page.until(f"{PANEL}.includes('Why each sentence')")
        await page.run(";".join(press % key for key in "1b"))
        await page.until(CHOSEN)
        assert not await page.run("document.getElementById('tree').hidden")


async def test_why_of_a_run_that_goes_on_is_made_anew_when_asked(tmp_path: Path) -> None:
    """Until then it says that it is of before."""
    with pytest.raises(drpo.RunPaused):
        drpo.optimize_blocking("experiment=smoke", "search.review=true", runs=tmp_path)
    async with served(tmp_path) as page:
        await page.press("4")
        await page.until(f"{PANEL}.includes('Weaknesses')")
        await drpo.resume(runs=tmp_path)
        await page.until("document.querySelector('#panel .stale')")
        await page.run("document.querySelector('#panel .stale').click()")
        await page.until("!document.querySelector('#panel .stale')")


async def test_a_run_of_examples_shows_theirs(tmp_path: Path) -> None:
    """The first of its searches, and that there is no prompt to tell of."""
    words = (
        "task=examples",
        "examples.path=builtin:seeds",
        "examples.limit=2",
        "examples.rounds=1",
    )
    path = drpo.optimize_blocking(*words, runs=tmp_path).path
    async with reported(path, tmp_path, f"{path.stem}/tree") as page:
        assert await page.run("document.getElementById('searches').selectedIndex") == 0
        await page.press("2")
        await page.until("document.querySelectorAll('#panel tbody tr').length")
        await page.press("3")
        await page.until(f"{PANEL}.includes('optimized examples, and no prompt')")
        await page.press("b")
        await page.until(CHOSEN)
        assert "Not found" not in await page.run(CHOSEN)


async def test_the_prompt_to_use_is_marked(tmp_path: Path) -> None:
    """Which is what an alignment chose, whatever its search returned."""
    words = ("search=greedy", "search.levels=2", "data.limit=40", "examples.limit=2")
    path = drpo.align_blocking(*words, runs=tmp_path).path
    used = reader.summary(path)["deployed"]["candidate"]
    async with reported(path, tmp_path, f"{path.stem}/tree") as page:
        legend = await page.run("document.getElementById('legend').innerText")
        assert "★ prompt to use" in legend
        await page.press("b")
        await page.until(f"{CHOSEN} === 'Candidate {used}'")
        assert "★ prompt to use" in await page.run(DETAILS)


async def test_nothing_of_the_bar_lies_under_another(run: Path, tmp_path: Path) -> None:
    """In a narrow window too."""
    boxes = (
        "[...document.querySelectorAll('#bar > *, #tabs > *, #search')]"
        ".filter((each) => each.id !== 'tabs' && !each.matches('.search'))"
        ".map((each) => each.getBoundingClientRect()).filter((box) => box.width)"
    )
    apart = (
        "(a, b) => a.right <= b.left + 1 || b.right <= a.left + 1"
        " || a.bottom <= b.top + 1 || b.bottom <= a.top + 1"
    )
    file = tmp_path / "report.html"
    file.write_text(report(run), encoding="utf-8")
    for width in (400, 700, 950):
        async with chromium(width, 600) as page:
            await page.open(file.as_uri())
            await page.until(CANDIDATES)
            script = (
                f"{boxes}.every((a, at, all) => all.slice(at + 1).every((b) => ({apart})(a, b)))"
            )
            assert await page.run(script), width


async def test_only_the_open_candidate_is_in_the_page(run: Path, tmp_path: Path) -> None:
    """However many there are and have been open."""
    async with reported(run, tmp_path) as page:
        await look_at_everything(page, run.stem)
        assert await page.run("document.querySelectorAll('*').length") < MOST_ELEMENTS
        assert await page.run("document.querySelectorAll('#details h1').length") == 1


async def test_a_server_with_a_token_is_asked_with_it(run: Path) -> None:
    """The page asks for it, and shows nothing before."""
    token = "a-token-of-24-characters"
    app = Viewed(run.parent, token=token, local=False).application()
    async with listening(app, "127.0.0.1", 0) as url, chromium() as page:
        await page.open(url)
        await page.until("document.querySelector('#help input')")
        assert not await page.run(CANDIDATES)
        await page.write("a-wrong-one-of-24-letters")
        await page.press("Enter")
        await page.until("document.querySelector('#help .wrong')")
        await page.write(token)
        await page.press("Enter")
        await page.until(CANDIDATES)

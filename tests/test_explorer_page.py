"""The Explorer in a real Chromium: keys, links, a run that goes on, and texts that attack it."""

from __future__ import annotations

from pathlib import Path

import pytest
from attacked import PLANTED, attacked
from chromium import EXECUTABLE, Page, chromium
from explored import CANDIDATES, CHOSEN, DETAILS, LOST, PANEL, SAID, reported, served

import drpo
from drpo.checkpoints import reader
from drpo.explorer.server import Viewed
from drpo.loopback import listening

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed here")

MOST_ELEMENTS = 3000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search on the sandbox."""
    runs = tmp_path_factory.mktemp("runs")
    return drpo.optimize_blocking("search=quick", "search.levels=4", runs=runs).path


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an alignment on the sandbox, which has searches, arms, findings and examples."""
    words = ("search=greedy", "search.levels=2", "data.limit=40", "examples.limit=2")
    return drpo.align_blocking(*words, runs=tmp_path_factory.mktemp("runs")).path


async def look_at_everything(page: Page, run: str) -> str:
    """Every page beside the tree, candidates of every search, every fold; all that was read."""
    unfold = (
        "document.querySelectorAll('.fold:not(.open) > button').forEach((each) => each.click())"
    )
    read = ""
    searches = await page.run("document.getElementById('searches').length")
    firsts = [str(1_000_000 * each) for each in range(1, searches)]
    last = str(await page.run(f"{CANDIDATES} - 1"))
    for place in ("levels", "why", "insights", "run", "tree", "0", "1", last, *firsts):
        await page.run(f"location.hash = '#{run}/{place}'")
        if place.isdigit():
            await page.until(f"{SAID}.includes('Candidate {place},')")
        elif place != "tree":
            await page.until("document.querySelector('#panel h1')")
        for _ in range(2):
            await page.run(unfold)
        assert await page.run("document.querySelectorAll('.failed').length") == 0, place
        read += str(await page.run("document.body.innerText"))
    await page.press("/")
    await page.write("script")
    await page.until("!document.getElementById('found').hidden")
    return read + str(await page.run("document.body.innerText"))


async def unharmed(page: Page, read: str) -> None:
    """Nothing of an attack ran, was made an element, or is a link; all was shown as it is."""
    assert page.dialogs == []
    assert page.errors == []
    assert '<script>alert("script")</script>' in read
    assert not {*"\x00\u202e\U000e0041"} & {*read}
    assert await page.run(f"document.querySelectorAll('{PLANTED}').length") == 0
    foreign = (
        "[...document.querySelectorAll('a')].filter((a) => !a.hash || a.origin !== location.origin)"
    )
    assert await page.run(f"{foreign}.length") == 0


async def test_i4_no_text_of_a_model_is_markup_or_script_in_a_report(
    aligned: Path, tmp_path: Path
) -> None:
    """Scripts, handlers, addresses and broken markup are shown as they are written."""
    async with reported(attacked(aligned, tmp_path), tmp_path) as page:
        await unharmed(page, await look_at_everything(page, aligned.stem))


async def test_i4_no_text_of_a_model_is_markup_or_script_when_served(
    aligned: Path, tmp_path: Path
) -> None:
    """And the page asks nobody but its own server, not for the name of a file either."""
    attacked(aligned, tmp_path)
    (tmp_path / '<img src="x" onerror="alert(5)">.sqlite').write_text("nothing")
    async with (
        listening(Viewed(tmp_path).application(), "127.0.0.1", 0) as url,
        chromium() as page,
    ):
        await page.open(f"{url}/#{aligned.stem[:8]}")
        await page.until(CANDIDATES)
        await page.press("r")
        await unharmed(page, await look_at_everything(page, aligned.stem))
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
        assert (await page.until(SAID)).startswith("Candidate 5, level ")


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


async def test_a_selection_shows_the_call_that_made_it(run: Path, tmp_path: Path) -> None:
    """Beside its reason, with what the rewarder was asked and said."""
    async with reported(run, tmp_path, f"{run.stem}/1") as page:
        await page.until(f"{CHOSEN} === 'Candidate 1'")
        call = "[...document.querySelectorAll('#details .role.rewarder')][0].closest('button')"
        await page.run(f"{call}.click()")
        shown = await page.run(f"{call}.parentElement.innerText")
        assert "reply" in shown
        assert "tokens" in shown


async def test_a_long_path_is_short_until_it_is_asked_for(tmp_path: Path) -> None:
    """Who goes through the page by keys is not held up by it."""
    words = ("search=greedy", "search.levels=20")
    path = drpo.optimize_blocking(*words, runs=tmp_path).path
    steps = "document.querySelectorAll('#details .way a').length"
    async with reported(path, tmp_path, path.stem) as page:
        await page.press("b")
        await page.until(CHOSEN)
        assert await page.run(steps) < 10
        await page.run("document.querySelector('#details .way button').click()")
        assert await page.run(steps) == len(reader.summary(path)["best"]["path"]) - 1


async def test_a_search_says_how_much_it_found(run: Path, tmp_path: Path) -> None:
    """Also where that is nothing; a candidate is told with what became of it."""
    found = "document.getElementById('found').innerText"
    async with reported(run, tmp_path) as page:
        for asked, said in (
            ("the", "added it"),
            ("no such words", "No prompt has"),
            ("#99", "no candidate 99"),
            ("#0", "level 0, kept"),
        ):
            await page.press("/")
            await page.write(asked)
            await page.until(f"{found}.includes('{said}')")
            await page.press("Escape")


async def test_keys_search_help_and_turn_the_light(run: Path, tmp_path: Path) -> None:
    """`/` finds a sentence and who added it, `?` shows the keys, `t` is light or dark."""
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


async def test_the_prompt_to_use_is_marked(aligned: Path, tmp_path: Path) -> None:
    """Which is what an alignment chose, whatever its search returned."""
    used = reader.summary(aligned)["deployed"]["candidate"]
    async with reported(aligned, tmp_path, f"{aligned.stem}/tree") as page:
        legend = await page.run("document.getElementById('legend').innerText")
        assert "★ prompt to use" in legend
        await page.press("b")
        await page.until(f"{CHOSEN} === 'Candidate {used}'")
        assert "★ prompt to use" in await page.run(DETAILS)


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

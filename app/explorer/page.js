// The page itself: what is open, links, and following a run that goes on.

const POLL_MS = 2000;
const HIDDEN_MS = 10000;
// As in page.css.
const NARROW = matchMedia("(max-width: 900px)");
const TABS = { tree: "Tree", levels: "Levels", why: "Why", insights: "Insights", run: "Run" };
// `opened` is whether the tab shows what it is to show of this run.
const state = { run: null, search: null, tab: "tree", opened: false, candidate: null, runs: { runs: [], unreadable: [] } };

const tree = new Tree($("canvas"), $("legend"), { pick: (id) => go(id), point });

// Links: #RUN, #RUN/CANDIDATE, #RUN/TAB; the beginning of a run's id is enough.
function read(address) {
  const [run = "", place = ""] = new URL(address).hash.slice(1).split("/").map(decoded);
  return { run, place };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function addressOf(run, place = null) {
  return `#${encodeURIComponent(run)}${place === null ? "" : `/${encodeURIComponent(place)}`}`;
}

function go(place) {
  const hash = addressOf(state.run.run, place);
  if (location.hash === hash) follow().catch(failed);
  else location.hash = hash;
}

let links = 0;

// Each link that was followed is gone through with its own address: the next may be there already.
async function follow(address = location.href) {
  links += 1;
  const mine = links;
  const { run, place } = read(address);
  const known = runNamed(run);
  if (!known) return noRun(run);
  if (state.run?.run !== known.run) {
    const told = await documents.run(known.run);
    if (mine !== links) return null;
    leaveRun();
    showRun(told);
  }
  if (Object.hasOwn(TABS, place)) {
    // There the candidate lies over what is to be seen.
    if (NARROW.matches) closeCandidate();
    await openTab(place);
  } else if (/^\d+$/.test(place)) {
    await openCandidate(Number(place));
  } else {
    closeCandidate();
    await openTab(state.tab);
    if (place) notice(`There is nothing named “${place}” in this run.`);
  }
  renderRuns();
  return null;
}

function runNamed(name) {
  const { runs } = state.runs;
  if (!name) return runs[0];
  return runs.find((each) => each.run === name) ?? runs.find((each) => each.run.startsWith(name));
}

let absent = null;

// Nothing of another run stays: the list of runs is what can be chosen from.
function noRun(name) {
  // Said already: what the reader holds there stays.
  if (absent?.name === name && absent.runs === state.runs) return;
  absent = { name, runs: state.runs };
  leaveRun();
  document.title = "drpo";
  $("run-name").replaceChildren();
  renderTabs();
  $("tree").hidden = true;
  $("panel").hidden = false;
  $("panel").replaceChildren(...(name ? [el("h1", {}, "No such run"), el("p", {}, "No run here begins with ",
    el("code", {}, name), ". These are there:")] : [el("h1", {}, "Runs")]), el("div", { class: "runs" }, runsList(state.runs)));
  renderRuns();
}

function leaveRun() {
  Object.assign(state, { run: null, search: null, opened: false });
  closeCandidate();
  endSearch();
  $("panel").replaceChildren();
  index = null;
}

function showRun(run) {
  state.run = run;
  absent = null;
  if (state.tab === "tree") [$("tree").hidden, $("panel").hidden] = [false, true];
  const { status, reason } = run.summary;
  document.title = `drpo ${run.run.slice(0, 8)} · ${status}`;
  $("run-name").replaceChildren(...nodesOf([el("code", {}, run.run.slice(0, 8)), statusMark(status),
    reason && el("span", { class: "note reason", title: reason }, reason),
    el("span", { class: "note" }, kindOf(run.summary))]));
  const kinds = { prompt: "Search for the prompt", arms: "Comparison of the best", example: "Example" };
  const searches = $("searches");
  searches.hidden = run.searches.length < 2;
  searches.replaceChildren(...run.searches.map((each) => el("option", { value: each.number },
    each.kind === "example" ? `${kinds.example}: ${(each.text ?? "").slice(0, 60)}` : kinds[each.kind])));
  if (!run.searches.some((each) => each.number === state.search)) state.search = firstSearch(run);
  searches.value = state.search;
  tree.show(run, state.search);
  tree.choose(state.candidate);
  legend(tree);
  renderTabs();
}

// The first that has candidates; a run of examples has none but theirs.
function firstSearch(run) {
  const begun = new Set(run.tree.id.map((id) => Math.floor(id / PER_SEARCH)));
  return (run.searches.find((each) => begun.has(each.number)) ?? run.searches[0])?.number ?? 0;
}

// Links that stay: what has the focus among them keeps it.
function renderTabs() {
  $("tabs").hidden = $("search").disabled = !state.run;
  if (!state.run) return;
  for (const link of $("tabs").children) {
    link.href = addressOf(state.run.run, link.dataset.tab);
    if (link.dataset.tab === state.tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function openTab(tab) {
  const { run, search } = state;
  if (state.tab !== tab) $("panel").replaceChildren();
  Object.assign(state, { tab, opened: true });
  renderTabs();
  const panel = $("panel");
  $("tree").hidden = tab !== "tree";
  panel.hidden = tab === "tree";
  if (tab === "tree") return tree.choose(state.candidate);
  const making = {
    levels: () => levelsPanel(run, search, tree.layout),
    run: () => overviewPanel(run),
    why: async () => whyPanel(run, await documents.why(run.run)),
    insights: async () => insightsPanel(run, await documents.insights(run.run)),
  };
  const made = await attempt(making[tab], el("h1", {}, TABS[tab]));
  if (state.tab !== tab || state.run?.run !== run.run) return null;
  panel.replaceChildren(...nodesOf([made]));
  panel.scrollTop = 0;
  if (state.run !== run) markStale();
  return null;
}

// What was made, or in its place why it could not be.
async function attempt(making, head) {
  try {
    return await making();
  } catch (error) {
    if (error instanceof Denied) throw error;
    return [head, el("p", { class: "failed" }, String(error.message))];
  }
}

async function openCandidate(id) {
  const { run } = state;
  const search = Math.floor(id / PER_SEARCH);
  if (!run.tree.id.includes(id)) {
    closeCandidate();
    await openTab(state.tab);
    return notice(`There is no candidate ${id} in this run.`);
  }
  if (search !== state.search) {
    state.search = search;
    showRun(run);
  }
  if (!state.opened) await openTab("tree");
  state.candidate = id;
  const wasHidden = $("details").hidden;
  $("details").hidden = false;
  tree.choose(id);
  // With less room the tree moves; what was chosen stays in sight.
  if (wasHidden) requestAnimationFrame(() => requestAnimationFrame(() => tree.choose(state.candidate)));
  await renderCandidate(id);
  return say(`Candidate ${id}, ${standingOf(run, id)}`);
}

// Where a candidate stands, in words.
function standingOf({ tree: { id: ids, level, fate, value: values } }, id) {
  const row = ids.indexOf(id);
  const valued = values[row] === null ? "" : `, path value ${value(values[row])}`;
  return `level ${level[row]}, ${FATES[fate[row]] ?? fate[row]}${valued}`;
}

// Where a candidate would be: why there is none.
function notice(text) {
  $("details").hidden = false;
  $("details").replaceChildren(plainHead("Not found"), el("p", { class: "missing" }, text));
  say(text);
}

async function renderCandidate(id, { keep = false } = {}) {
  const box = $("details");
  const made = await attempt(async () => details(state.run, await documents.candidate(state.run.run, id)),
    plainHead(`Candidate ${id}`));
  if (state.candidate !== id || state.run === null) return;
  const held = box.contains(document.activeElement);
  box.replaceChildren(...nodesOf([made]));
  if (held) box.focus();
  if (!keep) box.scrollTop = 0;
}

const plainHead = (title) => el("header", {}, el("h1", {}, title), closeButton(leaveCandidate));

function leaveCandidate() {
  go(state.tab === "tree" ? null : state.tab);
}

function closeCandidate() {
  if ($("details").contains(document.activeElement)) focusMain();
  state.candidate = null;
  $("details").hidden = true;
  $("details").replaceChildren();
  tree.choose(null);
}

function point(layout, node, event) {
  const tip = $("tip");
  tip.hidden = node === null;
  if (node === null) return;
  const at = (name) => layout.of(name, node);
  tip.replaceChildren(el("b", {}, `#${layout.id(node)}`), ` ${layout.tree.origins[at("origin")]}, ${FATES[at("fate")] ?? at("fate")}`,
    el("div", {}, `path value ${value(at("value"))} · reward ${value(at("reward"))}`));
  const box = $("tree").getBoundingClientRect();
  const right = event.clientX - box.left > box.width - 240;
  tip.style.left = `${event.clientX - box.left + (right ? -tip.offsetWidth - 14 : 14)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY - box.top + 14, box.height - 60))}px`;
}

const say = (text) => $("said").replaceChildren(plain(text));
const focusMain = () => ($("tree").hidden ? $("panel") : $("canvas")).focus();

let listed = null;

// The list is made anew when it has changed alone, and who walks it by keys stays where they are.
function renderRuns() {
  const open = state.run?.run;
  if (listed?.told === state.runs && listed.open === open) return;
  listed = { told: state.runs, open };
  const box = $("runs");
  const held = box.contains(document.activeElement) && document.activeElement.hash;
  box.replaceChildren(...runsList(state.runs, open));
  if (held) [...box.querySelectorAll("a")].find((each) => each.hash === held)?.focus();
}

function toggleRuns() {
  const box = $("runs");
  box.hidden = !box.hidden;
  $("runs-button").setAttribute("aria-expanded", String(!box.hidden));
  if (box.hidden) $("runs-button").focus();
  else (box.querySelector("a.here") ?? box.querySelector("a"))?.focus();
}

// A server off this machine wants a token; it is kept for this page alone.
function askToken() {
  if ($("help").open) return;
  const input = el("input", { type: "password", "aria-label": "Token", autocomplete: "off" });
  $("help").replaceChildren(el("h1", { id: "help-title" }, "This server needs its token"),
    serverSource.token ? el("p", { class: "wrong", role: "alert" }, "That was the wrong token.") : "",
    el("form", { method: "dialog", submit: () => {
      serverSource.token = input.value.trim();
      store("token", serverSource.token);
      refresh();
    } }, input, el("button", { class: "more" }, "Open")));
  $("help").showModal();
}

// Light and dark: the system's, until the switch is used.
function theme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const asked = stored("theme");
  wear(["dark", "light"].includes(asked) ? asked : system);
}

function turnTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  wear(next);
  store("theme", next, { lasting: true });
}

function wear(name) {
  document.documentElement.dataset.theme = name;
  if (!tree.run) return;
  tree.draw();
  legend(tree);
}

// Following: what has changed is drawn again, where the reader is stays.
let waiting = 0;

async function refresh() {
  clearTimeout(waiting);
  try {
    state.runs = await documents.runs();
    let said = "";
    if (!state.run) {
      await follow();
    } else if (SERVED && !runNamed(state.run.run)) {
      const unreadable = state.runs.unreadable.some((name) => name.startsWith(`${state.run.run}.`));
      said = unreadable ? "the file of this run cannot be read" : "this run is no longer there";
    } else {
      const before = state.run;
      const run = await documents.run(before.run);
      if (run !== before && state.run === before) await update(run);
    }
    renderRuns();
    const isBack = $("lost").textContent && !said;
    lost(said);
    if (isBack && $("panel").querySelector(".failed")) await openTab(state.tab);
  } catch (error) {
    failed(error);
  }
  if (SERVED) waiting = setTimeout(refresh, document.hidden ? HIDDEN_MS : POLL_MS);
}

function failed(error) {
  if (error instanceof Denied) askToken();
  else lost(error.message);
}

// What keeps the page from what is new; "" when nothing does.
function lost(text) {
  const box = $("lost");
  if (box.textContent !== text) box.replaceChildren(plain(text));
}

async function update(run) {
  const changed = (name) => state.run.tree[name][rowOf(state.run)] !== run.tree[name][rowOf(run)];
  const again = state.candidate !== null && ["fate", "reward", "value"].some(changed);
  index = null;
  showRun(run);
  if (again) await renderCandidate(state.candidate, { keep: true });
  // What the link asks for may be there now.
  if ($("details").querySelector(".missing")) await follow();
  if (["levels", "run"].includes(state.tab)) {
    const { scrollTop } = $("panel");
    await openTab(state.tab);
    $("panel").scrollTop = scrollTop;
  } else if (state.tab !== "tree") {
    if ($("panel").querySelector(".failed")) await openTab(state.tab);
    else markStale();
  }
}

// Of what takes long to make and to read: it changes when the reader asks for it.
function markStale() {
  const panel = $("panel");
  if (!panel.childElementCount || panel.querySelector(".stale")) return;
  panel.prepend(el("button", { class: "stale", click: () => openTab(state.tab).catch(failed) }, "The run has gone on: show again"));
}

const rowOf = (run) => run.tree.id.indexOf(state.candidate);

$("searches").addEventListener("change", (event) => {
  state.search = Number(event.target.value);
  closeCandidate();
  showRun(state.run);
  go(null);
});
$("tabs").append(...Object.entries(TABS).map(([name, said]) => el("a", { "data-tab": name }, said)));
$("legend").open = !NARROW.matches && innerHeight > 600;
$("runs").addEventListener("click", (event) => {
  if (event.target.closest("a") && NARROW.matches) toggleRuns();
});
$("found").addEventListener("click", (event) => { if (event.target.closest("a")) $("found").hidden = true; });
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".search")) $("found").hidden = true;
});
$("search").addEventListener("input", () => search().catch(failed));
$("search").addEventListener("focus", () => { $("found").hidden = !tree.found; });
$("theme").addEventListener("click", turnTheme);
$("keys").addEventListener("click", help);
$("runs-button").addEventListener("click", toggleRuns);
$("zoom-in").addEventListener("click", () => tree.zoom(1.3));
$("zoom-out").addEventListener("click", () => tree.zoom(1 / 1.3));
$("zoom-fit").addEventListener("click", () => tree.fit());
window.addEventListener("hashchange", (event) => follow(event.newURL).catch(failed));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
theme();
refresh();

// The page itself: what is open, keys, links, and following a run that goes on.

const POLL_MS = 2000;
const HIDDEN_MS = 10000;
const FOUND_SHOWN = 60;
const TABS = { tree: "Tree", levels: "Levels", why: "Why", insights: "Insights", run: "Run" };
const state = { run: null, search: 0, tab: "tree", candidate: null, runs: { runs: [], unreadable: [] } };
const KEYS = [["← →", "parent, best child"], ["↑ ↓", "next in the level"], ["Enter", "read the candidate"],
  ["b", "the returned or best candidate"], ["/", "search prompts, or #12"], ["Esc", "close"],
  ["+ − 0", "closer, further away, all of it"], ["1 … 5", "tree, levels, why, insights, run"],
  ["r", "runs"], ["t", "light or dark"], ["?", "these keys"]];

const tree = new Tree($("canvas"), { pick: (id) => go(id), point });

// Links: #RUN, #RUN/CANDIDATE, #RUN/TAB; the beginning of a run's id is enough.
function read() {
  const [run = "", place = ""] = location.hash.slice(1).split("/").map(decodeURIComponent);
  return { run, place };
}

function go(place) {
  const hash = `#${encodeURIComponent(state.run.run)}${place === null ? "" : `/${place}`}`;
  if (location.hash === hash) follow();
  else location.hash = hash;
}

async function follow() {
  const { run, place } = read();
  const known = state.runs.runs.find((each) => run && each.run.startsWith(run)) ?? state.runs.runs[0];
  if (!known) return renderRuns();
  if (state.run?.run !== known.run) await openRun(known.run);
  if (place in TABS) {
    await openTab(place);
  } else if (/^\d+$/.test(place)) {
    await openCandidate(Number(place));
  } else {
    closeCandidate();
    await openTab(state.tab);
  }
  renderRuns();
  return null;
}

async function openRun(name) {
  const run = await documents.run(name);
  if (state.run?.run !== name) {
    Object.assign(state, { run, search: 0, candidate: null });
    $("details").hidden = true;
    index = null;
  }
  showRun(run);
}

function showRun(run) {
  state.run = run;
  const { status, reason } = run.summary;
  document.title = `drpo ${run.run.slice(0, 8)} · ${status}`;
  $("run-name").replaceChildren(el("code", {}, run.run.slice(0, 8)), statusMark(status),
    el("span", { class: "note", title: reason ?? "" }, kindOf(run.summary)));
  const kinds = { prompt: "Search for the prompt", arms: "Comparison of the best", example: "Example" };
  const searches = $("searches");
  searches.hidden = run.searches.length < 2;
  searches.replaceChildren(...run.searches.map((each) => el("option", { value: each.number },
    each.kind === "example" ? `${kinds.example}: ${(each.text ?? "").slice(0, 60)}` : kinds[each.kind])));
  searches.value = state.search;
  tree.show(run, state.search);
  tree.choose(state.candidate);
  legend(tree);
  renderTabs();
}

function renderTabs() {
  $("tabs").replaceChildren(...Object.entries(TABS).map(([name, said]) => el("button", {
    role: "tab", "aria-selected": String(name === state.tab), click: () => go(name),
  }, said)));
}

async function openTab(tab) {
  const { run, search } = state;
  state.tab = tab;
  renderTabs();
  const panel = $("panel");
  $("tree").hidden = tab !== "tree";
  panel.hidden = tab === "tree";
  if (tab === "tree") return tree.draw();
  const making = {
    levels: () => levelsPanel(run, search, tree.layout),
    run: () => overviewPanel(run),
    why: async () => whyPanel(run, await documents.why(run.run)),
    insights: async () => insightsPanel(run, await documents.insights(run.run)),
  };
  const made = await attempt(making[tab]);
  if (state.tab !== tab || state.run !== run) return null;
  panel.replaceChildren(...[made].flat(Infinity).filter(isShown).map(asNode));
  panel.scrollTop = 0;
  return null;
}

// What was made, or in its place why it could not be.
async function attempt(making) {
  try {
    return await making();
  } catch (error) {
    if (error instanceof Denied) throw error;
    return el("p", { class: "note" }, String(error.message));
  }
}

async function openCandidate(id) {
  const { run } = state;
  const search = Math.floor(id / PER_SEARCH);
  if (!run.tree.id.includes(id)) {
    closeCandidate();
    return say(`There is no candidate ${id} in this run.`);
  }
  if (search !== state.search) {
    state.search = search;
    showRun(run);
  }
  if (state.candidate === null && state.tab !== "tree" && $("details").hidden && !$("panel").childElementCount) await openTab("tree");
  state.candidate = id;
  const wasHidden = $("details").hidden;
  $("details").hidden = false;
  tree.choose(id);
  // With less room the tree moves; what was chosen stays in sight.
  if (wasHidden) requestAnimationFrame(() => requestAnimationFrame(() => tree.choose(state.candidate)));
  await renderCandidate(id);
  return say(`Candidate ${id}, level ${run.tree.level[run.tree.id.indexOf(id)]}`);
}

async function renderCandidate(id, { keep = false } = {}) {
  const box = $("details");
  const made = await attempt(async () => details(state.run, await documents.candidate(state.run.run, id)));
  if (state.candidate !== id) return;
  box.replaceChildren(...[made].flat(Infinity).filter(isShown).map(asNode));
  if (!keep) box.scrollTop = 0;
}

function closeCandidate() {
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
  tip.replaceChildren(el("b", {}, `#${layout.id(node)}`), ` ${layout.tree.origins[at("origin")]}, ${at("fate")}`,
    el("div", {}, `path value ${value(at("value"))} · reward ${value(at("reward"))}`));
  const box = $("tree").getBoundingClientRect();
  const right = event.clientX - box.left > box.width - 240;
  tip.style.left = `${event.clientX - box.left + (right ? -tip.offsetWidth - 14 : 14)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY - box.top + 14, box.height - 60))}px`;
}

const say = (text) => $("said").replaceChildren(plain(text));

function renderRuns() {
  $("runs").replaceChildren(...runsList(state.runs, state.run?.run));
}

function toggleRuns() {
  $("runs").hidden = !$("runs").hidden;
  $("runs-button").setAttribute("aria-expanded", String(!$("runs").hidden));
}

// Searching: sentences that have all the words, and the candidates that have such a sentence.
let index = null;

async function search() {
  const asked = $("search").value.trim().toLowerCase();
  const box = $("found");
  if (!asked) return endSearch();
  if (/^#?\d+$/.test(asked)) {
    const id = Number(asked.replace("#", ""));
    const there = state.run.tree.id.includes(id);
    box.replaceChildren(there ? foundLink(id, "open it") : el("div", { class: "note" }, `There is no candidate ${id}.`));
    tree.mark(there ? [id] : []);
    box.hidden = false;
    return null;
  }
  index ??= await documents.sentences(state.run.run);
  if ($("search").value.trim().toLowerCase() !== asked) return null;
  const wanted = asked.split(/\s+/);
  const hits = new Set();
  index.sentences.forEach((text, at) => {
    const low = text.toLowerCase();
    if (wanted.every((word) => low.includes(word))) hits.add(at);
  });
  const parents = new Map(state.run.tree.id.map((id, at) => [id, state.run.tree.parent[at]]));
  const having = Object.entries(index.candidates).filter(([, mine]) => mine.some((at) => hits.has(at)));
  // Those that brought the sentence come first: their parents do not have it.
  const brought = having.map(([id, mine]) => [Number(id), mine.find((at) => hits.has(at)
    && !index.candidates[parents.get(Number(id))]?.includes(at))]).filter(([, at]) => at !== undefined);
  tree.mark(having.map(([id]) => Number(id)));
  box.replaceChildren(
    el("div", { class: "note" }, `${plural(having.length, "candidate has it", "candidates have it")}; ${count(brought.length)} brought it`),
    ...brought.slice(0, FOUND_SHOWN).map(([id, at]) => foundLink(id, index.sentences[at])));
  box.hidden = false;
  return null;
}

function foundLink(id, said) {
  const link = candidateLink(state.run.run, id, "");
  link.append(el("b", {}, `#${id}`), el("span", {}, said.slice(0, 160)));
  return link;
}

function endSearch() {
  $("found").hidden = true;
  $("search").value = "";
  tree.mark(null);
}

function walkFound(by) {
  const links = [...$("found").querySelectorAll("a")];
  const at = links.findIndex((each) => each.classList.contains("here"));
  links[at]?.classList.remove("here");
  const next = links[Math.max(0, Math.min(links.length - 1, at + by))];
  next?.classList.add("here");
  next?.scrollIntoView({ block: "nearest" });
}

// Keys.
const HANDLED = {
  "/": () => $("search").focus(),
  "?": () => help(),
  b: () => go(state.run.tree.returned.find((id) => id < PER_SEARCH) ?? state.run.summary.best?.candidate ?? 0),
  r: toggleRuns,
  t: () => turnTheme(),
  "+": () => tree.zoom(1.3),
  "=": () => tree.zoom(1.3),
  "-": () => tree.zoom(1 / 1.3),
  0: () => tree.fit(),
  Enter: () => $("details").focus(),
  Escape: () => escape(),
};
Object.keys(TABS).forEach((tab, at) => { HANDLED[at + 1] = () => go(tab); });

function escape() {
  if (!$("found").hidden || tree.found) endSearch();
  else if (state.candidate !== null) go(state.tab === "tree" ? null : state.tab);
  else if (!$("runs").hidden) toggleRuns();
  $("canvas").focus();
}

function walk(key) {
  const { layout, chosen } = tree;
  if (!layout?.size) return;
  const next = chosen === null ? 0 : layout.next(chosen, key);
  if (next !== null) go(layout.id(next));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const typing = event.target.matches("input, select, textarea");
  if (typing && event.key !== "Escape") return;
  const onTree = state.tab === "tree" && !event.target.closest("#details, #runs");
  if (event.key.startsWith("Arrow")) {
    if (!onTree) return;
    walk(event.key);
  } else if (event.key === "Enter" && event.target.closest("a, button")) {
    return;
  } else if (state.run && HANDLED[event.key]) {
    HANDLED[event.key]();
  } else {
    return;
  }
  event.preventDefault();
});

$("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") walkFound(event.key === "ArrowDown" ? 1 : -1);
  else if (event.key === "Enter") ($("found").querySelector("a.here") ?? $("found").querySelector("a"))?.click();
  else return;
  event.preventDefault();
});

function help() {
  $("help").replaceChildren(el("h1", {}, "Keys"), el("dl", {}, KEYS.map(([key, said]) =>
    [el("dt", {}, key.split(" ").map((each) => [el("kbd", {}, each), " "])), el("dd", {}, said)])));
  $("help").showModal();
}

// A server off this machine wants a token; it is kept for this page alone.
function askToken() {
  if ($("help").open) return;
  const input = el("input", { type: "password", "aria-label": "Token", autocomplete: "off" });
  $("help").replaceChildren(el("h1", {}, "This server needs its token"), el("form", { method: "dialog", submit: () => {
    serverSource.token = input.value.trim();
    store("token", serverSource.token);
    refresh();
  } }, input));
  $("help").showModal();
}

// Light and dark: the system's, until the switch is used.
function theme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const asked = stored("theme");
  document.documentElement.dataset.theme = ["dark", "light"].includes(asked) ? asked : system;
  if (!tree.run) return;
  tree.draw();
  legend(tree);
}

function turnTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  store("theme", next, { lasting: true });
  tree.draw();
  legend(tree);
}

// Following: what has changed is drawn again, where the reader is stays.
let waiting = 0;

async function refresh() {
  clearTimeout(waiting);
  try {
    state.runs = await documents.runs();
    if (!state.run) {
      await follow();
    } else {
      const before = state.run;
      const run = await documents.run(before.run);
      if (run !== before && state.run === before) await update(run);
    }
    renderRuns();
    $("run-name").classList.remove("lost");
  } catch (error) {
    if (error instanceof Denied) askToken();
    else if (state.run) $("run-name").querySelector(".note").replaceChildren("the server does not answer");
    else $("run-name").replaceChildren(el("span", { class: "note" }, plain(error.message)));
  }
  if (SERVED) waiting = setTimeout(refresh, document.hidden ? HIDDEN_MS : POLL_MS);
}

async function update(run) {
  const changed = (name) => state.run.tree[name][rowOf(state.run)] !== run.tree[name][rowOf(run)];
  const again = state.candidate !== null && ["fate", "reward", "value"].some(changed);
  index = null;
  showRun(run);
  if (again) await renderCandidate(state.candidate, { keep: true });
  if (["levels", "run"].includes(state.tab)) {
    const { scrollTop } = $("panel");
    await openTab(state.tab);
    $("panel").scrollTop = scrollTop;
  }
}

const rowOf = (run) => run.tree.id.indexOf(state.candidate);

$("details").addEventListener("click", (event) => {
  if (event.target.closest("[data-do=close]")) go(state.tab === "tree" ? null : state.tab);
});
$("searches").addEventListener("change", (event) => {
  state.search = Number(event.target.value);
  closeCandidate();
  showRun(state.run);
  go(null);
});
$("found").addEventListener("click", () => { $("found").hidden = true; });
$("search").addEventListener("input", search);
$("theme").addEventListener("click", turnTheme);
$("keys").addEventListener("click", help);
$("runs-button").addEventListener("click", toggleRuns);
$("zoom-in").addEventListener("click", () => tree.zoom(1.3));
$("zoom-out").addEventListener("click", () => tree.zoom(1 / 1.3));
$("zoom-fit").addEventListener("click", () => tree.fit());
window.addEventListener("hashchange", follow);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
theme();
refresh();

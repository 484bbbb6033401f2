// What each key does, and where; the tree's own keys are none where it is not seen.

const KEYS = [["← →", "parent, best child"], ["↑ ↓", "next in the level"], ["Enter", "read the candidate"],
  ["b", "the prompt to use, or the best candidate"], ["/", "search prompts, or #12"], ["Esc", "close"],
  ["+ − 0", "closer, further away, all of it"], ["1 … 5", "tree, levels, why, insights, run"],
  ["r", "runs"], ["t", "light or dark"], ["?", "these keys"]];

const HANDLED = {
  "/": () => $("search").focus(),
  "?": () => help(),
  b: () => go(bestOf(state.run)),
  r: toggleRuns,
  t: () => turnTheme(),
  Enter: () => $("details").focus(),
  Escape: () => escape(),
};
Object.keys(TABS).forEach((tab, at) => { HANDLED[at + 1] = () => go(tab); });
const OF_TREE = {
  "+": () => tree.zoom(1.3),
  "=": () => tree.zoom(1.3),
  "-": () => tree.zoom(1 / 1.3),
  0: () => tree.fit(),
};

function bestOf({ summary, tree: { returned, id } }) {
  return summary.deployed?.candidate ?? returned.find((each) => each < PER_SEARCH)
    ?? returned.find((each) => tree.layout.at.has(each)) ?? summary.best?.candidate ?? id[0];
}

function handlerOf(key) {
  if (!state.run) return { t: HANDLED.t, "?": HANDLED["?"], r: HANDLED.r }[key];
  return HANDLED[key] ?? (state.tab === "tree" ? OF_TREE[key] : undefined);
}

function escape() {
  if (!$("found").hidden || tree.found) endSearch();
  else if (document.activeElement === $("search")) focusMain();
  else if (!$("details").hidden) leaveCandidate();
  else if (!$("runs").hidden) toggleRuns();
  focusMain();
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
  const onTree = state.run && state.tab === "tree" && !event.target.closest("#details, #runs");
  if (event.key.startsWith("Arrow")) {
    if (!onTree) return;
    walk(event.key);
  } else if (event.key === "Enter" && event.target.closest("a, button, summary")) {
    return;
  } else if (handlerOf(event.key)) {
    handlerOf(event.key)();
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
  $("help").replaceChildren(el("h1", { id: "help-title" }, "Keys"), closeButton(() => $("help").close()), el("dl", {}, KEYS.map(([key, said]) =>
    [el("dt", {}, key.split(" ").map((each) => [el("kbd", {}, each), " "])), el("dd", {}, said)])));
  $("help").showModal();
}

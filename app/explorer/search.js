// Searching: sentences that have all the words, and the candidates that have such a sentence.

const FOUND_SHOWN = 60;
const FOUND_BEFORE = 60;
let index = null;

async function search() {
  const asked = $("search").value.trim().toLowerCase();
  if (!asked || !state.run) return endSearch();
  if (/^#?\d+$/.test(asked)) {
    const number = Number(asked.replace("#", ""));
    // In a search of its own an example's candidates are counted from 0 again.
    const ids = [...new Set([number, state.search * PER_SEARCH + number])].filter((id) => state.run.tree.id.includes(id));
    tree.mark(ids);
    return tellFound(ids.length ? "" : `There is no candidate ${number}.`, ids, (id) => foundLink(id, standingOf(state.run, id)));
  }
  const { run } = state.run;
  const told = index ?? await documents.sentences(run);
  if (state.run?.run !== run) return null;
  index = told;
  if ($("search").value.trim().toLowerCase() !== asked) return null;
  const wanted = asked.split(/\s+/);
  const hits = new Set();
  index.sentences.forEach((text, at) => {
    const low = text.toLowerCase();
    if (wanted.every((word) => low.includes(word))) hits.add(at);
  });
  const parents = new Map(state.run.tree.id.map((id, at) => [id, state.run.tree.parent[at]]));
  const having = Object.entries(index.candidates).filter(([, mine]) => mine.some((at) => hits.has(at)));
  // Those that added the sentence come first: their parents do not have it.
  const added = having.map(([id, mine]) => [Number(id), mine.find((at) => hits.has(at)
    && !index.candidates[parents.get(Number(id))]?.includes(at))]).filter(([, at]) => at !== undefined);
  tree.mark(having.map(([id]) => Number(id)));
  return tellFound(having.length === 0 ? "No prompt has a sentence with that."
    : `${plural(having.length, "candidate has it", "candidates have it")}; ${count(added.length)} added it`,
  added, ([id, at]) => foundLink(id, around(index.sentences[at], wanted[0])));
}

function tellFound(text, rows, made) {
  const box = $("found");
  box.replaceChildren(...nodesOf([text && el("div", { class: "note" }, text)]));
  paged(box, rows, made, FOUND_SHOWN);
  box.hidden = false;
  say(text);
  return null;
}

// The part of a long sentence in which a word is.
function around(text, word) {
  const at = text.toLowerCase().indexOf(word);
  return at < FOUND_BEFORE ? text : `… ${text.slice(text.indexOf(" ", at - FOUND_BEFORE) + 1)}`;
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

// One candidate: what became of it and why, its prompt against its parent's, each answer with its
// selection and verdict, and the calls behind all of it. Only the open one is on the page.

const LONGEST_WAY = 14;
const WAY_ENDS = 8;
// What became of a candidate, in words.
const FATES = { kept: "kept", skipped: "kept, good enough", dropped: "dropped", open: "not decided yet", arm: "compared" };

function details(run, told) {
  const { candidate: one } = told;
  const link = (id, label = `#${id}`) => candidateLink(run.run, id, label);
  return [
    detailsHead(one, run),
    figures(one, told, armOf(run, one.candidate)),
    one.parent !== null && wayPart(wayTo(run.tree, one.candidate), link),
    decisionsPart(one, armOf(run, one.candidate)),
    ...Object.keys(one.prompts).map((name, _, names) =>
      promptPart(one, name, told.texts, names.length > 1)),
    answersPart(one, told),
    rewritesPart(one, link),
    callsPart(one, told),
  ].filter(isShown);
}

function candidateLink(run, id, label = `#${id}`) {
  return el("a", { href: addressOf(run, id) }, label);
}

function detailsHead(one, run) {
  const row = run.tree.id.indexOf(one.candidate);
  const fate = run.tree.fate[row];
  const rank = fate === "kept" && one.beam_rank !== null ? `, rank ${one.beam_rank + 1}` : "";
  const arm = armOf(run, one.candidate);
  return el("header", {},
    el("h1", {}, arm ? arm.label : `Candidate ${one.candidate}`),
    !arm && el("span", { class: "tag" }, `level ${one.level}`),
    el("span", { class: "tag" }, one.author ? "by a person" : origin(one)),
    el("span", { class: fate === "dropped" || fate === "open" ? "tag" : "tag on" }, `${FATES[fate] ?? fate}${rank}`),
    starsOf(run).filter(({ id }) => id === one.candidate).map(({ sign, said }) => el("span", { class: "tag on" }, `${sign} ${said}`)),
    closeButton(leaveCandidate));
}

function origin(one) {
  const from = one.parent === null ? "" : ` #${one.parent}`;
  const said = { rewrite: `rewrite of${from}`, skip: `skip of${from}`, carried: `carried on from${from}`,
    arm: `prompt of${from}`, root: "root" };
  return said[one.origin] ?? one.origin;
}

// What an alignment compares: its name, and its mean where the comparison is finished.
function armOf(run, id) {
  const arm = run.arms.find((each) => each.candidate === id);
  if (!arm) return null;
  const found = run.summary.findings[arm.part];
  const shown = arm.with_examples ? "with examples" : "without examples";
  const mine = found?.arms?.find((each) => (arm.part === "select"
    ? each.prompt === arm.prompt && Boolean(each.with_examples) === Boolean(arm.with_examples) : each.name === arm.name));
  const label = arm.part === "select" ? `Prompt of #${arm.prompt}, ${shown}` : arm.name;
  return { part: arm.part, label, mean: mine?.mean ?? null };
}

function figures(one, told, arm) {
  const calls = one.calls.map((key) => told.calls[key]).filter(Boolean);
  const sum = (name) => calls.reduce((total, call) => total + (call[name] ?? 0), 0);
  const unknown = calls.some((call) => call.cost_usd === null);
  return figuresOf([
    arm ? ["mean reward", value(arm.mean)] : ["reward", value(one.reward)],
    !arm && [`path value (of ${count(one.path_count)})`, value(one.path_value)],
    ["calls", count(calls.length)],
    ["tokens", count(sum("prompt_tokens") + sum("completion_tokens"))],
    ["cost", unknown ? "unknown" : dollars(sum("cost_usd"))],
    ["time in calls", seconds(sum("seconds"))],
  ]);
}

function wayTo(tree, id) {
  const found = [];
  const parents = new Map(tree.id.map((each, at) => [each, tree.parent[at]]));
  for (let at = id; at !== null && at !== undefined && found.length < tree.id.length; at = parents.get(at)) {
    found.unshift(at);
  }
  return found;
}

// A long one in short, until the rest of it is asked for.
function wayPart(ids, link) {
  const box = el("nav", { class: "way", "aria-label": "Path from the root" });
  const step = (id, at) => [at > 0 && el("span", { "aria-hidden": "true" }, "›"),
    id === ids.at(-1) ? el("span", { "aria-current": "page" }, `#${id}`) : link(id)];
  const show = (...steps) => box.replaceChildren(...nodesOf(steps));
  if (ids.length <= LONGEST_WAY) show(ids.map(step));
  else {
    const more = el("button", { click: () => { show(ids.map(step)); box.querySelector("a").focus(); } }, `… ${ids.length - 1 - WAY_ENDS} more …`);
    show(step(ids[0], 0), more, ids.slice(-WAY_ENDS).map(step));
  }
  return box;
}

function decisionsPart(one, arm) {
  if (arm) return part("Why it is there", null, el("p", {}, `Compared with the others on the queries of "${arm.part}".`));
  if (!one.decisions.length) return part("Why it is there", null, el("p", { class: "note" }, "Nothing is decided on it yet."));
  return part("Why it is there", null, el("ul", { class: "reasons" }, one.decisions.map((each) =>
    el("li", {}, el("b", {}, each.action), `: ${each.reason} `,
      el("span", { class: "note" }, `(${each.node}, level ${each.level})`)))));
}

function promptPart(one, name, texts, several) {
  const changes = one.changes[name];
  const whole = texts[one.prompts[name]];
  const box = el("div");
  const changed = changes.some(([kind]) => kind !== "kept");
  const against = one.parent !== null && changed;
  const show = (how) => box.replaceChildren(how === "changes" ? changesOf(changes) : longText(whole));
  show(against ? "changes" : "text");
  const made = part(several ? `Prompt: ${name}` : "Prompt",
    one.parent === null ? null : against ? `against #${one.parent}, by sentence` : `the same as of #${one.parent}`, box);
  if (against) made.firstChild.append(switcher("Shown of the prompt", ["changes", "text"], "changes", show));
  return made;
}

function changesOf(changes) {
  return paged(el("ul", { class: "changes" }), changes, ([kind, said]) => el("li", { class: kind },
    el("span", {}, kind !== "changed" ? said : said.map(([how, text]) =>
      how === "kept" ? text : el(how === "added" ? "ins" : "del", {}, text)))));
}

function answersPart(one, told) {
  if (!one.samples.length) return part("Answers", null, el("p", { class: "note" }, "None yet."));
  const box = paged(el("div"), one.samples.map((each, at) => [each, at]), ([sample, at]) => {
    const query = told.queries[sample.query];
    const said = query.messages.at(-1)[1];
    const end = !sample.judged ? "no verdict" : sample.reward === null ? "unscored" : value(sample.reward, 2);
    return fold(said.slice(0, 200), end, () => answer(sample, query, told), { open: at === 0, name: "answer" });
  });
  return part("Answers", `${plural(one.samples.length, "sample")}, with their verdicts`, box);
}

function answer(sample, query, told) {
  const { selection } = query;
  return [
    el("h3", {}, `Query ${query.id}`, sample.sample > 0 && `, sample ${sample.sample}`, " ",
      query.tags.map((tag) => el("span", { class: "tag" }, tag))),
    query.messages.length > 1 ? messages(query.messages) : longText(query.messages[0][1]),
    query.reference && [el("h3", {}, "Reference"), longText(query.reference)],
    el("h3", {}, "Selection"),
    selection ? [
      el("div", {}, selection.aspects.map((aspect) =>
        [el("span", { class: "tag", title: aspect.definition }, aspect.name), " "])),
      longText(selection.reason, "bare"),
      notes(selection.notes),
      told.calls[selection.call] && callFold(selection.call, told.calls[selection.call], told.texts),
    ] : el("p", { class: "note" }, "Fixed for all queries, or not chosen yet."),
    el("h3", {}, "Answer"),
    sample.failure && el("p", { class: "note" }, `Failed: ${sample.failure}`),
    longText(told.texts[sample.answer], "answer"),
    el("h3", {}, `Verdict${sample.reward === null ? "" : `: reward ${value(sample.reward, 2)}`}`),
    sample.unscored && el("p", { class: "note" }, `Unscored: ${sample.unscored}`),
    el("table", { class: "scores" }, el("tbody", {}, sample.scores.map(score))),
    notes(sample.notes),
  ];
}

function score(each) {
  const filled = el("i");
  filled.style.width = `${((each.value ?? 1) - 1) * 25}%`;
  return el("tr", {}, el("td", {}, each.aspect),
    el("td", {}, each.value === null ? "–" : [el("span", { class: "meter" }, filled), value(each.value, each.value % 1 ? 1 : 0)]),
    el("td", {}, longText(each.rationale, "bare"), each.unscored && el("span", { class: "note" }, ` Unscored: ${each.unscored}`)));
}

function notes(said) {
  return said.map((note) => el("p", { class: "note" }, `Note: ${note}`));
}

function messages(turns, texts = null) {
  return turns.map(([role, said]) => [el("h3", {}, role), longText(texts ? texts[said] : said)]);
}

function rewritesPart(one, link) {
  if (!one.rewrites.length) return null;
  return part("What the rewriter made of it", null, paged(el("ul", { class: "reasons" }), one.rewrites, (each) =>
    el("li", {}, each.candidate !== null ? link(each.candidate) : el("b", {}, each.action ?? "failed"),
      each.candidate === null && `: ${each.reason ?? each.failure ?? "no reason is known"}`,
      el("span", { class: "note" }, ` (rewrite ${each.item})`))));
}

function callsPart(one, told) {
  const calls = one.calls.map((key) => [key, told.calls[key]]).filter(([, call]) => call);
  if (!calls.length) return null;
  const rows = paged(el("div"), calls, ([key, call]) => callFold(key, call, told.texts));
  return part("Calls", `${count(calls.length)}: what wrote it, answered, judged, and rewrote it`, rows);
}

function callFold(key, call, texts) {
  const took = `${count(call.prompt_tokens)} + ${count(call.completion_tokens)} tokens · ${seconds(call.seconds)} · ${dollars(call.cost_usd)}`;
  const line = [roleMark(call.role), ` ${call.model} `,
    call.outcome !== "ok" && call.outcome && el("span", { class: "tag warn" }, words(call.outcome))];
  return fold(line, took, () => callOf(key, call, texts), { name: "call" });
}

function callOf(key, call, texts) {
  const flags = [
    call.tokens_estimated && "tokens estimated",
    call.inherited && "of an earlier run",
    call.hits > 0 && `answered ${plural(call.hits, "more request", "more requests")} from the ledger`,
    ...call.finish_reasons.map((reason) => `finish: ${reason}`),
  ].filter(Boolean);
  const failed = call.attempts.filter((each) => each.problem);
  return [
    el("p", { class: "note" }, [call.provider, call.finished_at.replace("T", " ").slice(0, 19), key.slice(0, 12), ...flags].join(" · ")),
    failed.map((each) => el("p", { class: "note" }, `Attempt ${each.number + 1} failed after ${seconds(each.seconds)}: ${each.problem}`)),
    messages(call.messages, texts),
    call.thinking.map((text) => [el("h3", {}, "thinking"), longText(texts[text])]),
    call.replies.map((text, at) => [el("h3", {}, call.replies.length > 1 ? `reply ${at + 1}` : "reply"), longText(texts[text], "answer")]),
    fold("Parameters", "", () => longText(JSON.stringify(call.parameters, null, 2))),
  ];
}

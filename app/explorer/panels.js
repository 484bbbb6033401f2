// The pages beside the tree: the list of runs, what a run came to, its levels, why, insights.

const SHOWN_OF_COST = { tokens: count, calls: count, cost_usd: dollars, seconds };

function runsList(told, open) {
  return [
    ...told.runs.map((run) => el("a", { href: addressOf(run.run), class: run.run === open ? "here" : null, "aria-current": run.run === open && "page" },
      el("div", {}, el("code", {}, run.run.slice(0, 8)), statusMark(run.status)),
      el("div", { class: "note" }, el("span", {}, `${kindOf(run)} · level ${run.level} · ${count(run.calls)} calls`),
        el("span", {}, run.path_value === null ? "" : value(run.path_value, 2))),
      el("div", { class: "note" }, el("span", {}, run.models.target), el("span", {}, time(run.created_at))))),
    told.unreadable.length > 0 && el("p", { class: "note" }, `Cannot be read: ${told.unreadable.join(", ")}`),
    told.runs.length === 0 && el("p", {}, "There are no runs in this folder yet. One that begins is shown here at once: ",
      el("code", {}, "drpo optimize experiment=smoke"), " makes one in seconds, without a key."),
  ].filter(isShown);
}

const kindOf = (run) => ({ search: "search", align: "alignment", examples: "examples" })[run.kind] ?? run.kind;
const time = (iso) => iso.slice(0, 16).replace("T", " ");

function statusMark(status) {
  const known = ["running", "paused", "done", "failed"].includes(status) ? status : "";
  return el("span", { class: `status ${known}` }, status);
}

function overviewPanel(run) {
  const told = run.summary;
  const best = told.deployed ?? told.best;
  const tokens = told.tokens.prompt + told.tokens.completion;
  const calls = Object.entries(told.calls);
  return [
    el("h1", {}, "Run ", el("code", {}, told.run_id.slice(0, 8))),
    told.simulated && el("p", { class: "note" }, "Simulated models: the scores mean nothing outside the sandbox."),
    told.reason && el("div", { class: "caution" }, el("b", {}, told.status), `: ${told.reason}`),
    figuresOf([
      ["status", told.status], ["kind", kindOf(told)],
      ["levels finished", count(told.level)], ["candidates", count(told.candidates)],
      ["calls", count(calls.reduce((sum, [, each]) => sum + each.new, 0))],
      told.estimate && ["calls estimated", `${count(told.estimate.total.calls.expected)} (${count(told.estimate.total.calls.low)} to ${count(told.estimate.total.calls.high)})`],
      ["answered by the ledger", count(calls.reduce((sum, [, each]) => sum + each.from_ledger, 0))],
      ["tokens", `${told.tokens.estimated ? "about " : ""}${count(tokens)}`],
      ["cost", dollars(told.cost_usd)], ["time", seconds(told.seconds)],
      told.unscored > 0 && ["unscored answers", count(told.unscored)],
      told.failed_attempts > 0 && ["requests without a usable reply", count(told.failed_attempts)],
      ["made", time(told.created_at)], ["seed", String(told.seed)], told.parent && ["fork of", told.parent.slice(0, 8)],
    ]),
    best && [
      el("h2", {}, `${run.called[0].toUpperCase()}${run.called.slice(1)}`, " ",
        candidateLink(run.run, best.candidate),
        el("span", { class: "note" }, told.deployed ? (told.deployed.with_examples ? "with examples" : "without examples") : `path value ${value(best.path_value)}`)),
      Object.entries(best.prompts).map(([name, text]) => [Object.keys(best.prompts).length > 1 && el("h3", {}, name), longText(text, "prompt")]),
    ],
    findings(run),
    el("h2", {}, "Models"),
    table(["role", "model", "calls", "from the ledger", "did not succeed"], calls.map(([role, each]) => [
      roleMark(role), told.models[role], count(each.new), count(each.from_ledger),
      Object.entries(told.outcomes[role] ?? {}).map(([how, many]) => `${many} ${words(how)}`).join(", ") || "–"])),
    told.examples.length > 0 && [
      el("h2", {}, "Examples", el("span", { class: "note" }, "optimized for this target, retrieved per query")),
      paged(el("div"), told.examples, (each) => fold(each.query.slice(0, 200),
        each.reward === null ? "" : `reward ${value(each.before, 2)} → ${value(each.reward, 2)}`,
        () => [longText(each.query), el("h3", {}, "Answer"), longText(each.answer, "answer")])),
    ],
  ];
}

function roleMark(role) {
  return el("span", { class: `role ${ROLES.includes(role) ? role : ""}` }, role);
}

// What an alignment chose, and whether its gain is real.
function findings(run) {
  const { select, confirm, truth } = run.summary.findings;
  const link = (part, match) => {
    const arm = run.arms.find((each) => each.part === part && match(each));
    return arm ? candidateLink(run.run, arm.candidate, arm.name) : null;
  };
  const shown = (each) => (each.with_examples ? "with examples" : "without examples");
  return [
    select && [
      el("h2", {}, "Choice", el("span", { class: "note" }, "mean rewards on the queries of `select`")),
      table(["prompt of", "", "mean", ""], select.arms.map((arm) => [candidateLink(run.run, arm.prompt), shown(arm), value(arm.mean, 2),
        arm.prompt === select.challenger && arm.with_examples === select.with_examples ? "chosen" : ""])),
    ],
    confirm && confirm.tested !== null && confirm.tested !== undefined && [
      el("h2", {}, "Confirmation", el("span", { class: "note" }, `on ${plural(confirm.queries, "query", "queries")} that nothing was fitted to`)),
      confirm.exploratory && el("div", { class: "caution" }, "Exploratory: these queries were used to confirm a gain before. The test proves less than it says."),
      el("p", {}, el("b", {}, confirm.real ? "A real gain. " : "No real gain: the root stays. "),
        `Gain over the root ${value(confirm.estimate, 2)}`,
        confirm.low === null ? ", no interval: too few queries differ" : `, 95 % interval ${value(confirm.low, 2)} to ${value(confirm.high, 2)}`,
        `, p = ${Number(confirm.p).toPrecision(2)}; asked for were p of at most 0.05 and ${confirm.min_gain} points.`),
      table(["arm", "mean", "unscored", truth ? "really worth (simulated)" : "", ""], confirm.arms.map((arm) => [
        link("confirm", (each) => each.name === arm.name) ?? arm.name, value(arm.mean, 2), count(arm.unscored),
        truth ? value(truth[arm.name], 2) : "", arm.name === confirm.tested ? "tested" : ""])),
    ],
    confirm && !confirm.tested && [el("h2", {}, "Confirmation"), el("p", {}, "Nothing was found to test against the root, which stays.")],
  ].filter(Boolean);
}

function levelsPanel(run, search, layout) {
  const mine = run.levels.filter((each) => each.search === search);
  const box = el("div");
  const isUnknown = (what) => mine.some(({ roles }) => Object.values(roles).some((each) => each[what] === null));
  const chart = (what) => box.replaceChildren(isUnknown(what)
    ? el("p", { class: "note" }, "Unknown: not every call has a price.")
    : drawnToWidth((width) => costChart(mine, what, SHOWN_OF_COST[what], width)));
  chart("tokens");
  const names = { tokens: "tokens", calls: "calls", "US dollars": "cost_usd", time: "seconds" };
  return [
    el("h1", {}, "Levels"),
    el("div", { class: "caution" }, "Each level asks other queries, so its rewards are higher or lower for that reason alone. Read them within a level; from level to level they are no learning curve."),
    el("h2", {}, "Rewards", el("span", { class: "note" }, "each candidate at its level, 1–5")),
    drawnToWidth((width) => rewardChart(layout, width)),
    el("div", { class: "keys-of" }, dot("var(--accent)", "in the beam"), dot("var(--mid)", "dropped or open")),
    el("h2", {}, "Cost", el("span", { class: "note" }, "by role; calls of earlier runs not counted"), switcher("Shown of the cost", Object.keys(names), "tokens", (name) => chart(names[name]))),
    box,
    el("div", { class: "keys-of" }, ROLES.map(roleMark)),
    el("h2", {}, "Level by level"),
    table(["level", "queries", "candidates", "kept", "least reward", "mean", "greatest", "calls", "tokens", "cost", "time in calls"],
      layout.columns.map((column, level) => levelRow(layout, column, level, mine.find((each) => each.level === level)))),
  ];
}

function dot(colour, label) {
  const mark = svg("svg", { width: 10, height: 10 }, svg("circle", { cx: 5, cy: 5, r: 4, fill: colour }));
  mark.style.cssText = "display:inline-block;width:10px;margin-right:5px";
  return el("span", {}, mark, label);
}

function levelRow(layout, column, level, cost) {
  const rewards = column.map((node) => layout.of("reward", node)).filter((each) => each !== null).sort((a, b) => a - b);
  const kept = column.filter((node) => ["kept", "skipped"].includes(layout.of("fate", node)));
  const roles = Object.values(cost?.roles ?? {});
  const sum = (name) => roles.reduce((total, each) => total + (each[name] ?? 0), 0);
  const average = rewards.length ? rewards.reduce((total, each) => total + each, 0) / rewards.length : null;
  return [String(level), count(cost?.queries ?? 0), count(column.length), count(kept.length), value(rewards[0] ?? null, 2),
    value(average, 2), value(rewards.at(-1) ?? null, 2), count(sum("calls")), count(sum("tokens")),
    roles.some((each) => each.cost_usd === null) ? "unknown" : dollars(sum("cost_usd")), seconds(sum("seconds"))];
}


// Why each sentence is there, and what a run tells of its model's weaknesses.

const CLUES_SHOWN = 5;

function whyPanel(run, told) {
  return [
    el("h1", {}, "Why each sentence is there"),
    el("p", { class: "note" }, `Of the ${told.called}, `, candidateLink(run.run, told.candidate),
      ": which candidate added or last changed each sentence, and the low scores that its rewriter saw. That a score was the reason is a guess by the words that they share."),
    Object.entries(told.prompts).map(([name, sentences], _, all) => [
      all.length > 1 && el("h2", {}, name),
      paged(el("ol", { class: "why" }), sentences, (each) => whyLine(run, each)),
    ]),
  ];
}

function whyLine(run, each) {
  const from = { root: "root", rewrite: "rewrite", person: "by a person" }[each.origin] ?? each.origin;
  const back = each.returned && [el("div", {}, "had been there before: "), candidateLink(run.run, each.returned.candidate)];
  const matched = each.evidence.filter((clue) => clue.matched);
  const others = each.evidence.filter((clue) => !clue.matched);
  return el("li", {},
    el("div", { class: "from" }, each.origin === "root" ? "root" : [`level ${each.level} `,
      candidateLink(run.run, each.candidate), el("div", {}, from), back]),
    el("div", {}, el("div", { class: "sentence" }, each.text),
      each.before && el("div", { class: "note" }, `It was: ${each.before}`),
      each.unfounded && each.origin !== "root" && el("div", { class: "unfounded" }, `No evidence: ${each.unfounded}`),
      matched.length > 0 && paged(el("div", { class: "clues" }), matched, clueOf, CLUES_SHOWN),
      others.length > 0 && fold(el("span", { class: "note" }, matched.length
        ? `${plural(others.length, "more low score")} that the rewriter saw`
        : `No low score shares words with it; the rewriter saw ${count(others.length)}`), "",
      () => paged(el("div"), others, clueOf, CLUES_SHOWN))));
}

function clueOf(clue) {
  const moved = isNumber(clue.before) && isNumber(clue.after)
    ? `${value(clue.before, 2)} → ${value(clue.after, 2)}` : "";
  return fold([el("b", {}, clue.aspect), ` ${value(clue.score, clue.score % 1 ? 1 : 0)}  `, clue.rationale], moved, () => [
    el("h3", {}, `Query ${clue.query}`), longText(clue.query_text),
    el("h3", {}, "Rationale"), longText(clue.rationale),
    fold("The answer that was judged", "", () => longText(clue.answer, "answer")),
    clue.shared?.length > 0 && el("p", { class: "note" }, `Words in common: ${clue.shared.join(", ")}`),
    moved && el("p", { class: "note" }, `Mean of the aspect: ${value(clue.before, 2)} where it was seen, ${value(clue.after, 2)} under the rewrite, ${value(clue.since, 2)} since then; each on other queries.`),
  ]);
}

function insightsPanel(run, told) {
  const [mine] = told.runs;
  return [
    el("h1", {}, "Weaknesses that the search found"),
    el("p", { class: "note" }, `Of ${mine.models.target}, by ${plural(mine.verdicts, "verdict")} on ${plural(mine.queries, "query", "queries")} under ${plural(mine.candidates, "candidate")}; a score below ${told.low_below} is low. Intervals are over queries.`),
    el("div", { class: "caution" }, told.cautions.map((said) => el("div", {}, said))),
    el("h2", {}, "Aspects", el("span", { class: "note" }, "weakest first; those of few queries last")),
    paged(el("div"), mine.aspects, aspectOf),
    el("h2", {}, "Queries that stay hard", el("span", { class: "note" }, "by mean reward over all candidates that answered")),
    mine.hard.length === 0 && el("p", { class: "note" }, "None."),
    paged(el("div"), mine.hard, (each) => fold(each.text,
      `${value(each.mean, 2)}, best ${value(each.best, 1)}`, () => [longText(each.text),
        el("p", { class: "note" }, `Query ${each.query}, answered under ${plural(each.candidates, "candidate")}; weakest in ${each.weakest.aspect}: ${value(each.weakest.mean, 2)}.`)]), 12),
  ];
}

function aspectOf(each) {
  const { all } = each;
  const end = [el("span", { class: "aside" }, `mean ${value(all.mean, 2)}`), interval(all.mean, all.mean_interval),
    el("span", { class: "aside" }, `low ${percent(all.low_share)}`)];
  return fold(el("b", {}, each.aspect), end, () => [
    table(["", "queries", "scores", "mean", "95 %", "low", "95 %"], [["all candidates", all], ["the root", each.root], ["the best path", each.path]]
      .map(([name, at]) => [name, count(at.queries), count(at.scores), value(at.mean, 2), ends(at.mean_interval, (end) => value(end, 2)),
        percent(at.low_share), ends(at.low_share_interval, percent)])),
    each.rationales.groups.length > 0 && [el("h3", {}, "Typical rationales of low scores"),
      each.rationales.groups.map((group) => [longText(group.text),
        el("p", { class: "note" }, `${plural(group.scores, "low score")} on ${plural(group.queries, "query", "queries")}: this or much the same`)])],
    each.answered && each.answered.instructions.length > 0 && [el("h3", {}, "What rewriters wrote against it"),
      each.answered.instructions.map((said) => [longText(said.text, "answer"), el("p", { class: "note" },
        [plural(said.children, "rewrite") + (said.in_best ? ", part of the best prompt" : ""),
          said.scored > 0 && `aspect ${value(said.before, 2)} before, ${value(said.after, 2)} after (${count(said.scored)} judged)`,
          said.compared > 0 && `${signed(said.lead)} against siblings without it (${count(said.compared)} compared)`].filter(Boolean).join(" · "))])],
  ]);
}

// A mean with its interval on the scale from 1 to 5.
function interval(at, pair) {
  const [low, high] = pair ?? [];
  const x = (score) => 4 + (score - 1) * 33;
  const line = (from, to, colour, width) => svg("path", { d: `M${x(from)} 6H${x(to)}`, stroke: colour, "stroke-width": width, "stroke-linecap": "round" });
  const box = svg("svg", { viewBox: "0 0 140 12", "aria-hidden": "true" }, line(1, 5, "var(--line)", 2),
    isNumber(low) && line(Math.max(1, low), Math.min(5, high), "var(--accent)", 4),
    isNumber(at) && svg("circle", { cx: x(at), cy: 6, r: 4, fill: "var(--accent)", stroke: "var(--paper)" }));
  box.classList.add("interval");
  return box;
}

const signed = (number) => `${number < 0 ? "−" : "+"}${value(Math.abs(number), 2)}`;
const isNumber = (said) => typeof said === "number";
const percent = (share) => (isNumber(share) ? `${Math.round(share * 100)} %` : "–");
const ends = (pair, shown) => (pair ? `${shown(pair[0])} to ${shown(pair[1])}` : "–");

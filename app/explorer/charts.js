// Small charts as SVG. All points of a kind are one path, so that thousands of them are one element.

const SVG = "http://www.w3.org/2000/svg";
const PLOT = { height: 240, left: 60, right: 12, top: 14, bottom: 30 };
const LEAST_WIDTH = 480;
const LEVEL_ROOM = 34;
const ROLES = ["target", "judge", "rewriter", "rewarder"];

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children.flat(Infinity).filter(isShown));
  return made;
}

// What `made` draws for a width, anew when there is more room or less: words keep their size.
function drawnToWidth(made) {
  const box = el("div", { class: "wide" });
  let drawn = 0;
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.max(LEAST_WIDTH, Math.floor(contentRect.width));
    if (width === drawn || !contentRect.width) return;
    drawn = width;
    box.replaceChildren(made(width));
  }).observe(box);
  return box;
}

class Plot {
  constructor(label, width, levels, low, high) {
    Object.assign(this, { width, levels: Math.max(1, levels), low, high: high > low ? high : low + 1 });
    this.box = svg("svg", { width, height: PLOT.height, role: "img", "aria-label": label });
  }

  x(level) {
    return PLOT.left + (level + 0.5) * this.band;
  }

  y(number) {
    const room = PLOT.height - PLOT.top - PLOT.bottom;
    return PLOT.height - PLOT.bottom - ((number - this.low) / (this.high - this.low)) * room;
  }

  get band() { return (this.width - PLOT.left - PLOT.right) / this.levels; }

  axes(ticks, shown) {
    for (const tick of ticks) {
      const y = this.y(tick);
      this.box.append(
        svg("path", { d: `M${PLOT.left} ${y}H${this.width - PLOT.right}`, stroke: "var(--line)" }),
        svg("text", { x: PLOT.left - 8, y: y + 4, "text-anchor": "end" }, shown(tick)));
    }
    const every = Math.ceil(LEVEL_ROOM / this.band);
    for (let level = 0; level < this.levels; level += every) {
      this.box.append(svg("text", { x: this.x(level), y: PLOT.height - 12, "text-anchor": "middle" },
        String(level)));
    }
    return this;
  }

  dots(points, colour, width) {
    const d = points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("");
    this.box.append(svg("path", { d, stroke: colour, "stroke-width": width, "stroke-linecap": "round",
      fill: "none" }));
    return this;
  }

  bars(rects, colour) {
    const d = rects.map(([x, y, width, height]) =>
      `M${x.toFixed(1)} ${y.toFixed(1)}h${width.toFixed(1)}v${height.toFixed(1)}h${(-width).toFixed(1)}z`);
    this.box.append(svg("path", { d: d.join(""), fill: colour }));
    return this;
  }
}

// The rewards of every candidate at its level; never joined, because levels ask different queries.
function rewardChart(layout, width) {
  const plot = new Plot("Reward of each candidate at its level", width, layout.columns.length, 1, 5);
  plot.axes([1, 2, 3, 4, 5], String);
  const kinds = { kept: [], dropped: [] };
  for (const column of layout.columns) {
    column.forEach((node, at) => {
      const reward = layout.of("reward", node);
      if (reward === null) return;
      const aside = ((at + 0.5) / column.length - 0.5) * plot.band * 0.7;
      const kind = ["dropped", "open"].includes(layout.of("fate", node)) ? "dropped" : "kept";
      kinds[kind].push([plot.x(layout.level(node)) + aside, plot.y(reward)]);
    });
  }
  const many = layout.size > 1500;
  plot.dots(kinds.dropped, "var(--mid)", many ? 2.5 : 5);
  return plot.dots(kinds.kept, "var(--accent)", many ? 4 : 7).box;
}

// What each level took, role by role: `what` is calls, tokens, cost_usd or seconds.
function costChart(levels, what, shown, room) {
  const total = (level) => ROLES.reduce((sum, role) => sum + (level.roles[role]?.[what] ?? 0), 0);
  const most = Math.max(0, ...levels.map(total));
  const last = Math.max(0, ...levels.map((each) => each.level));
  const ticks = roundTicks(most, shown === count ? 1 : 0);
  const plot = new Plot(`${words(what)} of each level, by role`, room, last + 1, 0, ticks.at(-1));
  plot.axes(ticks, shown);
  const width = Math.min(28, plot.band * 0.7);
  const under = new Map();
  for (const role of ROLES) {
    plot.bars(levels.map((each) => {
      const from = under.get(each.level) ?? 0;
      const to = from + (each.roles[role]?.[what] ?? 0);
      under.set(each.level, to);
      return [plot.x(each.level) - width / 2, plot.y(to), width, plot.y(from) - plot.y(to)];
    }), `var(--${role})`);
  }
  return plot.box;
}

// From 0 to the first round number that is no less, in steps of at least `least`.
function roundTicks(most, least) {
  if (!(most > 0)) return [0];
  const power = 10 ** Math.floor(Math.log10(most / 4));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= least && each * 4 >= most);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, at) => at * step);
}

// Small charts as SVG. All points of a kind are one path, so that thousands of them are one element.

const SVG = "http://www.w3.org/2000/svg";
const PLOT = { width: 1000, height: 240, left: 60, right: 12, top: 14, bottom: 30 };
const ROLES = ["target", "judge", "rewriter", "rewarder"];

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children.flat(Infinity).filter(isShown));
  return made;
}

class Plot {
  constructor(label, levels, low, high) {
    Object.assign(this, { levels: Math.max(1, levels), low, high: high > low ? high : low + 1 });
    this.box = svg("svg", {
      viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img", "aria-label": label,
    });
  }

  x(level) {
    return PLOT.left + ((level + 0.5) * (PLOT.width - PLOT.left - PLOT.right)) / this.levels;
  }

  y(number) {
    const room = PLOT.height - PLOT.top - PLOT.bottom;
    return PLOT.height - PLOT.bottom - ((number - this.low) / (this.high - this.low)) * room;
  }

  get band() { return (PLOT.width - PLOT.left - PLOT.right) / this.levels; }

  axes(ticks, shown) {
    for (const tick of ticks) {
      const y = this.y(tick);
      this.box.append(
        svg("path", { d: `M${PLOT.left} ${y}H${PLOT.width - PLOT.right}`, stroke: "var(--line)" }),
        svg("text", { x: PLOT.left - 8, y: y + 4, "text-anchor": "end" }, shown(tick)));
    }
    const every = Math.ceil(this.levels / 24);
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
function rewardChart(layout) {
  const plot = new Plot("Reward of each candidate at its level", layout.columns.length, 1, 5);
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
  plot.dots(kinds.dropped, "var(--strong-line)", many ? 2.5 : 5);
  return plot.dots(kinds.kept, "var(--accent)", many ? 4 : 7).box;
}

// What each level took, role by role: `what` is calls, tokens, cost_usd or seconds.
function costChart(levels, what, shown) {
  const total = (level) => ROLES.reduce((sum, role) => sum + (level.roles[role]?.[what] ?? 0), 0);
  const most = Math.max(0, ...levels.map(total));
  const last = Math.max(0, ...levels.map((each) => each.level));
  const plot = new Plot(`${words(what)} of each level, by role`, last + 1, 0, most);
  plot.axes([0, most / 2, most], shown);
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

// How the tree is painted: columns, lines, candidates. One shape for each fate, so that colour is
// never the only difference.

const LEAST_RADIUS = 1.4;
const HEAD = 24;
const RIM = 0.6;

function paint(tree) {
  const { pen, canvas } = tree;
  const ratio = window.devicePixelRatio || 1;
  const colours = getComputedStyle(document.documentElement);
  const ink = (name) => colours.getPropertyValue(`--${name}`).trim();
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const seen = visible(tree);
  const added = addedLevels(tree);
  paintBand(tree, added, ink);
  paintLines(tree, seen, ink);
  paintNodes(tree, seen, ink);
  paintLevels(tree, added, ink);
}

// The nodes whose column and height are within the frame.
function visible({ layout, view, canvas }) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const first = Math.max(0, Math.floor(-view.x / view.scale / layout.step) - 1);
  const last = Math.min(layout.columns.length - 1,
    Math.ceil((width - view.x) / view.scale / layout.step) + 1);
  const [top, bottom] = [(-30 - view.y) / view.scale, (height + 30 - view.y) / view.scale];
  const found = [];
  for (let level = first; level <= last; level += 1) {
    for (const node of layout.columns[level]) {
      if (layout.y[node] >= top && layout.y[node] <= bottom) found.push(node);
    }
  }
  return found;
}

// Where the levels that skips have added begin and how wide they are; null where there are none.
function addedLevels({ layout, view, run, search }) {
  const step = layout.step * view.scale;
  const first = search === 0 && run.first_extended !== null ? run.first_extended : Infinity;
  if (layout.columns.length <= first) return null;
  return { left: (first - 0.5) * step + view.x, width: (layout.columns.length - first) * step };
}

function paintBand({ canvas, pen }, added, ink) {
  if (!added) return;
  pen.fillStyle = ink("band");
  pen.fillRect(added.left, 0, added.width, canvas.clientHeight);
}

// The levels' numbers, on a strip of their own that no candidate goes through.
function paintLevels({ layout, view, canvas, pen, run, search }, added, ink) {
  // What is compared has no level.
  if (run.searches.some((each) => each.number === search && each.kind === "arms")) return;
  const step = layout.step * view.scale;
  const every = Math.ceil(34 / step);
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = ink("ground");
  pen.fillRect(0, 0, canvas.clientWidth, HEAD);
  if (added) {
    pen.fillStyle = ink("band");
    pen.fillRect(added.left, 0, added.width, HEAD);
    pen.fillStyle = ink("warn");
    pen.textAlign = "left";
    plate(pen, "extended by skips", added.left + 4, HEAD + 12, ink("band"));
  }
  pen.fillStyle = ink("faint");
  pen.textAlign = "center";
  for (let level = 0; level < layout.columns.length; level += every) {
    pen.fillText(level === 0 && every < 3 ? "level 0" : String(level), level * step + view.x, 16);
  }
}

function paintLines(tree, seen, ink) {
  const { layout, pen, moving } = tree;
  const many = seen.length > FEW;
  const strokes = { dropped: new Path2D(), kept: new Path2D(), best: new Path2D(), way: new Path2D() };
  const inFrame = new Set(many ? [] : seen);
  const line = (child) => {
    const parent = layout.parent(child);
    if (parent === null) return;
    const dropped = tree.isLost[child];
    if (dropped && many && moving) return;
    const [x, y] = tree.screen(parent);
    const [to, down] = tree.screen(child);
    const both = (set) => set?.has(child) && set.has(parent);
    const kind = both(tree.way) ? "way" : both(tree.best) ? "best" : dropped ? "dropped" : "kept";
    strokes[kind].moveTo(x, y);
    const middle = (x + to) / 2;
    if (many) strokes[kind].lineTo(to, down);
    else strokes[kind].bezierCurveTo(middle, y, middle, down, to, down);
  };
  for (const node of seen) {
    line(node);
    // Lines that leave the frame on the right.
    if (!many) for (const child of layout.children[node]) if (!inFrame.has(child)) line(child);
  }
  const width = Math.min(1.5, Math.max(0.9, tree.view.scale * 1.2));
  stroke(pen, strokes.dropped, ink("edge"), width * (many ? 0.5 : 0.8));
  stroke(pen, strokes.kept, ink("mid"), width * (many ? 0.8 : 1.1));
  stroke(pen, strokes.best, ink("soft"), width * 2.2);
  stroke(pen, strokes.way, ink("accent"), Math.max(1.5, width * 2.2));
}

function stroke(pen, path, colour, width) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke(path);
}

function paintNodes(tree, seen, ink) {
  const { layout, pen, view, found } = tree;
  const room = Math.min(layout.gap, layout.step / 2.2) * view.scale;
  const radius = Math.min(11, Math.max(LEAST_RADIUS, 0.34 * room));
  const small = radius < 2.6;
  const rim = ink("ink");
  const hollow = ink("paper");
  const grey = ink("mid");
  if (small) paintDots(tree, seen, radius, grey);
  for (const node of small ? [] : seen) {
    const [x, y] = tree.screen(node);
    const at = tree.shades[node];
    const colour = at === null ? null : PALETTE[at];
    pen.globalAlpha = found && !found.has(node) ? 0.12 : 1;
    drawMark(pen, mark(layout, node), x, y, radius, { colour, rim, hollow, grey });
  }
  pen.globalAlpha = 1;
  paintRings(tree, radius, ink);
  if (radius > 5.5 && layout.step * view.scale > 60) paintLabels(tree, seen, radius, ink);
}

// Too small for shapes: all of one shade in one go.
function paintDots(tree, seen, radius, grey) {
  const { pen, found, view, layout } = tree;
  const paths = new Map();
  // Below them: light marks on a light ground and dark ones on a dark ground are seen by it.
  const rims = new Path2D();
  for (const node of seen) {
    const faded = found !== null && !found.has(node);
    const key = `${tree.shades[node]} ${faded}`;
    if (!paths.has(key)) paths.set(key, { path: new Path2D(), shade: tree.shades[node], faded });
    const half = tree.isLost[node] ? radius * 0.8 : radius * 1.3;
    const [x, y] = [layout.x[node] * view.scale + view.x - half, layout.y[node] * view.scale + view.y - half];
    paths.get(key).path.rect(x, y, 2 * half, 2 * half);
    if (!faded) rims.rect(x - RIM, y - RIM, 2 * (half + RIM), 2 * (half + RIM));
  }
  pen.fillStyle = grey;
  pen.fill(rims);
  for (const { path, shade: at, faded } of paths.values()) {
    pen.globalAlpha = faded ? 0.12 : 1;
    pen.fillStyle = at === null ? grey : PALETTE[at];
    pen.fill(path);
  }
}

function mark(layout, node) {
  if (layout.tree.origins[layout.of("origin", node)] === "skip") return "skip";
  return layout.of("fate", node);
}

// Also for the legend: a circle kept, a small one dropped, a diamond carried on by a skip, a ring open.
function drawMark(pen, kind, x, y, radius, { colour, rim, hollow, grey }) {
  const size = kind === "dropped" ? radius * 0.68 : radius;
  pen.beginPath();
  if (kind === "skip") {
    pen.moveTo(x, y - size * 1.25);
    pen.lineTo(x + size * 1.25, y);
    pen.lineTo(x, y + size * 1.25);
    pen.lineTo(x - size * 1.25, y);
    pen.closePath();
  } else if (kind === "arm") {
    pen.rect(x - size * 0.85, y - size * 0.85, size * 1.7, size * 1.7);
  } else {
    pen.arc(x, y, size, 0, 2 * Math.PI);
  }
  pen.fillStyle = colour ?? hollow;
  pen.fill();
  pen.strokeStyle = kind === "dropped" || kind === "open" || colour === null ? grey : rim;
  pen.lineWidth = kind === "dropped" ? 0.75 : 1.25;
  pen.setLineDash(kind === "open" ? [2, 2] : []);
  pen.stroke();
  pen.setLineDash([]);
  if (kind !== "skipped") return;
  pen.beginPath();
  pen.arc(x, y, size + 2.5, 0, 2 * Math.PI);
  pen.stroke();
}

function paintRings(tree, radius, ink) {
  const { pen, layout, chosen, over, run } = tree;
  const ring = (node, colour, width, by) => {
    const [x, y] = tree.screen(node);
    pen.beginPath();
    pen.arc(x, y, Math.max(radius, 4) + by, 0, 2 * Math.PI);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  };
  for (const { id, sign } of starsOf(run)) {
    const node = layout.at.get(id);
    if (node === undefined) continue;
    const [x, y] = tree.screen(node);
    pen.fillStyle = ink("ink");
    pen.font = `${Math.round(Math.max(13, radius * 1.8))}px system-ui, sans-serif`;
    pen.textAlign = "center";
    haloed(pen, sign, x, y - Math.max(radius, 4) - 5, ink("ground"));
  }
  if (over !== null && over < layout.size) ring(over, ink("soft"), 1.5, 3.5);
  if (chosen !== null && chosen < layout.size) ring(chosen, ink("accent"), 2.5, 4);
}

// What a search returned need not be what the run says to use: that may be the root.
function starsOf({ summary: { deployed }, called, tree }) {
  const used = deployed?.candidate;
  const others = tree.returned.filter((id) => id !== used).map((id) => deployed
    ? { id, sign: "☆", said: "returned by the search" } : { id, sign: "★", said: "returned" });
  return deployed ? [{ id: used, sign: "★", said: called }, ...others] : others;
}

function paintLabels(tree, seen, radius, ink) {
  const { pen, layout, view } = tree;
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "left";
  pen.fillStyle = ink("soft");
  const far = layout.step * view.scale > 110;
  for (const node of seen) {
    const [x, y] = tree.screen(node);
    const said = far && layout.of("value", node) !== null ? `  ${value(layout.of("value", node), 2)}` : "";
    const arm = armOf(tree.run, layout.id(node));
    const name = arm ? `${arm.part}: ${arm.label}  ${value(arm.mean, 2)}` : `${layout.id(node) % PER_SEARCH}${said}`;
    plate(pen, name, x + radius + 5, y + 4, ink("ground"));
  }
}

// Words that no line goes through: the line to a child leaves its parent at just their height.
function plate(pen, text, x, y, ground) {
  const ink = pen.fillStyle;
  pen.fillStyle = ground;
  pen.fillRect(x - 2, y - 10, pen.measureText(text).width + 4, 13);
  pen.fillStyle = ink;
  pen.fillText(text, x, y);
}

// A sign that can be seen across the lines behind it.
function haloed(pen, text, x, y, ground) {
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  pen.strokeStyle = ground;
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

// The scale of the path values, and the shapes.
function legend(tree) {
  const colours = getComputedStyle(document.documentElement);
  const ink = (name) => colours.getPropertyValue(`--${name}`).trim();
  const pens = { rim: ink("ink"), hollow: ink("paper"), grey: ink("mid") };
  const kinds = [["kept", "kept in the beam"], ["dropped", "dropped"], ["skipped", "good enough to be skipped"],
    ["skip", "carried on unchanged by a skip"], ["open", "not decided yet"], ["arm", "compared on the same queries"]];
  const there = new Set();
  let isUnvalued = false;
  for (let node = 0; node < tree.layout.size; node += 1) {
    const kind = mark(tree.layout, node);
    there.add(kind);
    isUnvalued ||= kind === "kept" && tree.shades[node] === null;
  }
  const marks = kinds.filter(([kind]) => there.has(kind)).map(([kind, said]) => {
    const colour = ["open", "arm"].includes(kind) ? null : PALETTE[40];
    const sample = drawing(18, 18, (pen) => drawMark(pen, kind, 9, 9, 5, { ...pens, colour }));
    return el("li", {}, sample, said);
  });
  if (isUnvalued) {
    const sample = drawing(18, 18, (pen) => drawMark(pen, "kept", 9, 9, 5, { ...pens, colour: null }));
    marks.push(el("li", {}, sample, "no path value, as the root"));
  }
  const scale = tree.range && el("div", { class: "scale" },
    el("span", {}, `path value ${tree.range.below ? "≤ " : ""}${value(tree.range.low, 2)}`),
    drawing(160, 8, (pen) => PALETTE.forEach((colour, at) => {
      pen.fillStyle = colour;
      pen.fillRect((at * 160) / SHADES, 0, 160 / SHADES + 1, 8);
    })),
    el("span", {}, `${tree.range.above ? "≥ " : ""}${value(tree.range.high, 2)}`));
  const here = starsOf(tree.run).filter(({ id }) => tree.layout.at.has(id));
  const stars = [...new Set(here.map(({ sign, said }) => `${sign} ${said}`))].map((said) => el("li", {}, said));
  $("legend").lastElementChild.replaceChildren(...nodesOf([
    !there.has("arm") && el("p", {}, "Each mark is a candidate, a prompt that was tried; lines lead to what was made of it at the next level.",
      scale && " Its colour is its path value, the mean reward (1 to 5) on the way from the root."),
    scale, el("ul", {}, marks, stars)]));
}

function drawing(width, height, draw) {
  const ratio = window.devicePixelRatio || 1;
  const canvas = el("canvas", { width: width * ratio, height: height * ratio });
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  draw(pen);
  return canvas;
}

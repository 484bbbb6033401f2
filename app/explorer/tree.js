// The tree on a canvas: drawn in one go, so that thousands of candidates are no elements of the
// page. Knows where they stand (layout.js) and what was chosen; tells what is pointed at.

const PER_SEARCH = EMBEDDED.per_search;
const SHADES = 64;
// Cividis: seen alike by people who tell colours apart differently, and light to dark in grey.
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74",
  "#c3b369", "#e1cc55", "#fee838"];
const FEW = 1200;
const REST_MS = 120;
const BEYOND = 0.05;
const MARGIN = { left: 48, right: 48, top: 72, bottom: 40 };

class Tree {
  // `legend` takes a part of the room below.
  constructor(canvas, legend, { pick, point }) {
    Object.assign(this, { canvas, legend, pick, point });
    this.pen = canvas.getContext("2d");
    this.view = { x: 0, y: 0, scale: 1 };
    this.fitted = true;
    this.shape = 1;
    this.layout = null;
    this.chosen = this.over = null;
    this.found = null;
    this.listen();
    const resizes = new ResizeObserver(() => this.resize());
    for (const each of [canvas, legend]) resizes.observe(each);
  }

  show(run, search) {
    const same = this.run?.run === run.run && this.search === search;
    if (this.run !== run || !same) this.take(run, search);
    if (!same) this.fitted = true;
    if (this.fitted) this.fit();
    this.draw();
  }

  take(run, search) {
    this.run = run;
    this.search = search;
    this.layout = new Layout(run.tree, search);
    this.layout.stretch(this.shape);
    this.range = range(this.layout);
    this.canvas.dataset.candidates = this.layout.size;
    // Looked up once: a picture of thousands is painted anew at every step of the mouse.
    this.shades = Array.from({ length: this.layout.size }, (_, node) =>
      shade(this.layout.of("value", node), this.range));
    this.isLost = Array.from({ length: this.layout.size }, (_, node) =>
      ["dropped", "open"].includes(this.layout.of("fate", node)));
    this.best = this.path(run.tree.returned.find((id) => this.layout.at.has(id)));
  }

  room() {
    return [Math.max(50, this.canvas.clientWidth - MARGIN.left - MARGIN.right),
      Math.max(50, this.canvas.clientHeight - MARGIN.top - MARGIN.bottom - this.legend.offsetHeight)];
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.fitted) this.fit();
    else this.draw();
  }

  choose(id) {
    this.chosen = this.layout?.at.get(id) ?? null;
    this.way = this.path(id);
    if (this.chosen !== null && !this.fitted && this.canvas.clientWidth) this.reveal(this.chosen);
    this.draw();
  }

  path(id) {
    const node = this.layout?.at.get(id);
    return node === undefined ? new Set() : new Set(this.layout.path(node));
  }

  mark(ids) {
    this.found = ids && new Set([...ids].map((id) => this.layout.at.get(id)));
    this.draw();
  }

  // Everything within the frame.
  fit() {
    const { layout } = this;
    if (!layout) return;
    const [width, height] = this.room();
    this.shape = Math.max(0.5, width / height);
    layout.stretch(this.shape);
    const scale = Math.min(width / Math.max(1, layout.width), height / Math.max(1, layout.height), 1.8);
    this.view = {
      scale,
      x: MARGIN.left + (width - layout.width * scale) / 2,
      y: MARGIN.top + (height - layout.height * scale) / 2,
    };
    this.fitted = true;
    this.draw();
  }

  // What is looked at: the chosen candidate where it is in sight, else the middle.
  middle() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [x, y] = this.chosen === null ? [-1, -1] : this.screen(this.chosen);
    return x >= 0 && x <= width && y >= 0 && y <= height ? [x, y] : [width / 2, height / 2];
  }

  // A hidden canvas has no size, and no point to zoom about.
  zoom(factor, [x, y] = this.middle()) {
    const { view } = this;
    if (!this.canvas.clientWidth) return;
    const scale = Math.min(8, Math.max(0.01, view.scale * factor));
    const by = scale / view.scale;
    this.view = { scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
    this.moved();
  }

  pan(x, y) {
    this.view = { ...this.view, x: this.view.x + x, y: this.view.y + y };
    this.moved();
  }

  // While it moves, a large tree is drawn with fewer lines; once it rests, with all of them.
  moved() {
    this.fitted = false;
    this.moving = true;
    clearTimeout(this.rests);
    this.rests = setTimeout(() => {
      this.moving = false;
      this.draw();
    }, REST_MS);
    this.draw();
  }

  reveal(node) {
    const [x, y] = this.screen(node);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const left = x < 40 ? 40 - x : Math.min(0, width - 40 - x);
    const up = y < 70 ? 70 - y : Math.min(0, height - 60 - y);
    if (left || up) this.pan(left, up);
  }

  screen(node) {
    const { x, y, scale } = this.view;
    return [this.layout.x[node] * scale + x, this.layout.y[node] * scale + y];
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.layout || !this.canvas.width) return;
      paint(this);
      this.drawn ??= performance.mark("drawn");
    });
  }

  hit(event) {
    const box = this.canvas.getBoundingClientRect();
    const { x, y, scale } = this.view;
    const reach = Math.max(12, 9 * scale) / scale;
    return this.layout?.nearest((event.clientX - box.left - x) / scale,
      (event.clientY - box.top - y) / scale, reach) ?? null;
  }

  listen() {
    const { canvas } = this;
    const fingers = new Map();
    let gone = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      gone = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return this.hover(this.hit(event), event);
      const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const now = [event.clientX, event.clientY];
      fingers.set(event.pointerId, now);
      gone += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      if (others.length) this.pinch(others[0], before, now);
      else if (gone > 3) this.pan(now[0] - before[0], now[1] - before[1]);
      return null;
    });
    const up = (event) => {
      const was = fingers.delete(event.pointerId);
      if (!was || gone > 3 || event.type !== "pointerup") return;
      const node = this.hit(event);
      if (node !== null) this.pick(this.layout.id(node));
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const turned = Math.max(-60, Math.min(60, event.deltaY * (event.deltaMode ? 20 : 1)));
      this.zoom(Math.exp(-turned / 180), [event.clientX - box.left, event.clientY - box.top]);
    }, { passive: false });
  }

  pinch(other, before, now) {
    const box = this.canvas.getBoundingClientRect();
    const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
    this.zoom(apart(now) / apart(before),
      [(other[0] + now[0]) / 2 - box.left, (other[1] + now[1]) / 2 - box.top]);
  }

  hover(node, event) {
    if (node !== this.over) {
      this.over = node;
      this.canvas.classList.toggle("over", node !== null);
      this.draw();
    }
    this.point(node === null ? null : this.layout, node, event);
  }
}

// The path values that the scale begins and ends with. The few beyond them, which are mostly those of
// the first levels, look like its ends: else all others would look alike.
function range(layout) {
  const values = [];
  for (let node = 0; node < layout.size; node += 1) {
    if (layout.of("value", node) !== null) values.push(layout.of("value", node));
  }
  if (!values.length) return null;
  values.sort((one, other) => one - other);
  const at = (share) => values[Math.round(share * (values.length - 1))];
  const [low, high] = [at(BEYOND), at(1 - BEYOND)];
  const ends = { below: values[0] < low, above: values.at(-1) > high };
  return high - low < 1e-9 ? { low: low - 0.5, high: high + 0.5, ...ends } : { low, high, ...ends };
}

// 0 for the darkest of the shades; null for a candidate without a path value.
function shade(number, span) {
  if (number === null || span === null) return null;
  const place = (number - span.low) / (span.high - span.low);
  return Math.round(Math.min(1, Math.max(0, place)) * (SHADES - 1));
}

const PALETTE = Array.from({ length: SHADES }, (_, at) => {
  const place = (at / (SHADES - 1)) * (CIVIDIS.length - 1);
  const [low, high] = [Math.floor(place), Math.ceil(place)].map((each) => CIVIDIS[each]
    .match(/[0-9a-f]{2}/g).map((two) => parseInt(two, 16)));
  const mixed = low.map((part, each) => Math.round(part + (high[each] - part) * (place % 1)));
  return `rgb(${mixed.join(" ")})`;
});

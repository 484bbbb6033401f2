// Elements and figures. What a model said gets onto the page as text nodes alone, never as markup:
// nothing here or elsewhere sets innerHTML, and the page's policy would not let it.

const TEXT_AT_ONCE = 4000;
const ROWS_AT_ONCE = 40;
// Marks that turn the direction of what follows, and other characters that show nothing: app/wording.py
// has the same ones. Joiners stay, which scripts and emoji need.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u202a-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

const $ = (id) => document.getElementById(id);

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value === true ? "" : plain(value));
  }
  made.append(...nodesOf(children));
  return made;
}

function nodesOf(children) {
  return children.flat(Infinity).filter(isShown).map(asNode);
}

function isShown(child) {
  return child !== null && child !== undefined && child !== false && child !== "";
}

function asNode(child) {
  return child instanceof Node ? child : plain(child);
}

function plain(text) {
  return String(text).replace(UNSEEN, "\ufffd");
}

// A long text, of which the rest is shown when it is asked for.
function longText(text, kind = "") {
  const box = el("div", { class: `text ${kind}` }, text.slice(0, TEXT_AT_ONCE));
  let shown = TEXT_AT_ONCE;
  const left = () => text.length - shown;
  if (left() <= 0) return box;
  const more = el("button", { class: "more" });
  const label = () => more.replaceChildren(`Show more (${count(left())} characters left)`);
  more.addEventListener("click", () => {
    box.insertBefore(document.createTextNode(plain(text.slice(shown, shown + TEXT_AT_ONCE))), more);
    shown += TEXT_AT_ONCE;
    if (left() > 0) label();
    else more.remove();
  });
  label();
  box.append(more);
  return box;
}

// The first rows of a list into `box`, and a button for more of them.
function paged(box, items, made, size = ROWS_AT_ONCE) {
  let shown = 0;
  const more = el("button", { class: "more", click: next });
  function next() {
    more.remove();
    box.append(...items.slice(shown, shown + size).map(made));
    shown += size;
    if (shown >= items.length) return;
    more.replaceChildren(`Show more (${count(items.length - shown)} left)`);
    box.append(more);
  }
  next();
  return box;
}

// A line that opens; what is in it is made when it is opened first.
function fold(line, end, inner, { open = false, name = "" } = {}) {
  const box = el("div", { class: "fold" });
  const button = el("button", { "aria-expanded": "false", click: turn, "data-name": name },
    el("span", { class: "line" }, line), el("span", { class: "end" }, end));
  let body = null;
  function turn() {
    if (body === null) box.append((body = el("div", { class: "inner" }, inner())));
    const now = box.classList.toggle("open");
    body.hidden = !now;
    button.setAttribute("aria-expanded", String(now));
  }
  box.append(button);
  if (open) turn();
  return box;
}

function part(title, note, ...children) {
  const head = el("h2", {}, title, isShown(note) && el("span", { class: "note" }, note));
  return el("section", { class: "part" }, head, children);
}

function closeButton(close) {
  return el("button", { class: "quiet close", title: "Close (Esc)", "aria-label": "Close", click: close }, "×");
}

// Buttons of which one is pressed; `pick` gets its name.
function switcher(label, names, chosen, pick) {
  const box = el("span", { class: "switch", role: "group", "aria-label": label });
  const buttons = names.map((name) => el("button", { click: () => press(name) }, name));
  function mark(name) {
    names.forEach((each, at) => buttons[at].setAttribute("aria-pressed", String(each === name)));
  }
  function press(name) {
    mark(name);
    pick(name);
  }
  mark(chosen);
  box.append(...buttons);
  return box;
}

function table(heads, rows, limit = 400) {
  const isFigure = (cell) => /^([-–$0-9.,% ms]|min|unknown)*$/.test(cell ?? "");
  const numeric = heads.map((_, at) => rows.every((row) => isFigure(row[at]))
    && rows.some((row) => /[0-9]|unknown/.test(row[at] ?? "")));
  const kind = (at) => (numeric[at] ? { class: "number" } : {});
  const body = el("tbody");
  paged(body, rows, (row) => el("tr", {}, row.map((cell, at) => el("td", kind(at), cell ?? "–"))), limit);
  return el("div", { class: "wide" }, el("table", { class: "figures-table" },
    heads.some(isShown) && el("thead", {}, el("tr", {}, heads.map((head, at) => el("th", kind(at), head)))),
    body));
}

// Figures side by side, each under its name.
function figuresOf(named) {
  return el("dl", { class: "figures" }, named.filter(Boolean).map(([name, said]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, said))));
}

// Not toLocaleString, whose first call loads the browser's tables of languages: 10 ms and more.
const count = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");

function value(number, digits = 3) {
  if (number === null || number === undefined) return "–";
  // Halves go to the even digit, as in a terminal: 3.125 is 3.12 there, and 3.13 to toFixed.
  const scaled = number * 10 ** digits;
  const isHalf = Math.abs(scaled % 1) === 0.5 && Number.isInteger(number * 2 ** (digits + 1));
  return (isHalf ? 2 * Math.round(scaled / 2) / 10 ** digits : number).toFixed(digits);
}

function dollars(cost) {
  if (cost === null || cost === undefined) return "unknown";
  return `$${cost === 0 || cost >= 0.1 ? cost.toFixed(2) : cost.toFixed(4)}`;
}

function seconds(took) {
  if (took === null || took === undefined) return "–";
  if (took === 0) return "0 s";
  if (took >= 120) return `${(took / 60).toFixed(1)} min`;
  return took >= 0.1 ? `${took.toFixed(1)} s` : `${(took * 1000).toFixed(took < 0.01 ? 1 : 0)} ms`;
}

const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

const words = (name) => String(name).replaceAll("_", " ");

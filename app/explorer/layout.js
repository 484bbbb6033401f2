// Where each candidate of a search stands in the picture: levels from left to right, children of one
// parent side by side and as near to it as the others let them. No two lines cross.

const GAP = 18;
const LEAST_STEP = 64;
const MOST_STEP = 520;
const MOST_HIGHER = 5;

class Layout {
  // `tree` is the overview's, column by column; `search` the number of the one to lay out.
  constructor(tree, search) {
    this.tree = tree;
    this.rows = [];
    this.at = new Map();
    tree.id.forEach((id, row) => {
      if (Math.floor(id / PER_SEARCH) !== search) return;
      this.at.set(id, this.rows.length);
      this.rows.push(row);
    });
    this.size = this.rows.length;
    this.x = new Float64Array(this.size);
    this.y = new Float64Array(this.size);
    this.heights = new Float64Array(this.size);
    this.children = Array.from({ length: this.size }, () => []);
    this.among = new Int32Array(this.size);
    this.columns = [];
    for (let node = 0; node < this.size; node += 1) {
      const parent = this.parent(node);
      if (parent !== null) this.among[node] = this.children[parent].push(node) - 1;
      else this.column(this.level(node)).push(node);
    }
    this.place();
  }

  column(level) {
    while (this.columns.length <= level) this.columns.push([]);
    return this.columns[level];
  }

  id(node) { return this.tree.id[this.rows[node]]; }
  level(node) { return this.tree.level[this.rows[node]]; }
  of(name, node) { return this.tree[name][this.rows[node]]; }

  parent(node) {
    const parent = this.tree.parent[this.rows[node]];
    return this.at.get(parent) ?? null;
  }

  // Heights, before they are stretched.
  place() {
    for (let level = 0; level < this.columns.length; level += 1) {
      const column = this.columns[level];
      this.spread(column);
      for (const node of column) {
        for (const child of this.children[node]) this.column(this.level(child)).push(child);
      }
    }
    this.top = Infinity;
    let bottom = -Infinity;
    for (const each of this.heights) {
      this.top = Math.min(this.top, each);
      bottom = Math.max(bottom, each);
    }
    this.low = this.size ? bottom - this.top : 0;
  }

  // To a frame that is `shape` times as wide as it is high.
  stretch(shape) {
    this.height = this.low;
    const steps = Math.max(1, this.columns.length - 1);
    const wanted = (Math.max(this.height, 1) * shape) / steps;
    this.step = Math.min(MOST_STEP, Math.max(LEAST_STEP, wanted));
    this.width = this.step * (this.columns.length - 1);
    // A tree that is long and low takes some of the room above and below it.
    const higher = Math.min(MOST_HIGHER, Math.max(1, this.width / shape / Math.max(1, this.height)));
    this.height *= higher;
    this.gap = GAP * higher;
    for (let node = 0; node < this.size; node += 1) {
      this.x[node] = this.level(node) * this.step;
      this.y[node] = (this.heights[node] - this.top) * higher;
    }
  }

  // The order is given; the places are the nearest to the wished ones that leave a gap: a
  // regression that never falls (pool adjacent violators), on the wish less the gaps before it.
  spread(column) {
    const pools = [];
    column.forEach((node, at) => {
      pools.push({ sum: this.wish(node) - at * GAP, size: 1 });
      while (pools.length > 1 && mean(pools.at(-2)) > mean(pools.at(-1))) {
        const last = pools.pop();
        pools.at(-1).sum += last.sum;
        pools.at(-1).size += last.size;
      }
    });
    let at = 0;
    for (const pool of pools) {
      for (let left = pool.size; left > 0; left -= 1, at += 1) {
        this.heights[column[at]] = mean(pool) + at * GAP;
      }
    }
  }

  wish(node) {
    const parent = this.parent(node);
    if (parent === null) return 0;
    const siblings = this.children[parent];
    return this.heights[parent] + (this.among[node] - (siblings.length - 1) / 2) * GAP;
  }

  // The node nearest to a place, if it is within `reach`.
  nearest(x, y, reach) {
    const level = Math.round(x / this.step);
    if (Math.abs(x - level * this.step) > reach) return null;
    const column = this.columns[level] ?? [];
    let low = 0;
    let high = column.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.y[column[middle]] < y) low = middle + 1;
      else high = middle;
    }
    const near = [column[low - 1], column[low]].filter((node) => node !== undefined);
    near.sort((one, other) => Math.abs(this.y[one] - y) - Math.abs(this.y[other] - y));
    return near.length && Math.abs(this.y[near[0]] - y) <= reach ? near[0] : null;
  }

  // The nodes from the root to this one.
  path(node) {
    const found = [];
    for (let at = node; at !== null && found.length <= this.size; at = this.parent(at)) found.push(at);
    return found.reverse();
  }

  // Where an arrow key leads.
  next(node, key) {
    if (key === "ArrowLeft") return this.parent(node);
    if (key === "ArrowRight") {
      const kept = this.children[node].find((child) => this.of("fate", child) !== "dropped");
      return kept ?? this.children[node][0] ?? null;
    }
    const column = this.columns[this.level(node)];
    return column[column.indexOf(node) + (key === "ArrowUp" ? -1 : 1)] ?? null;
  }
}

const mean = (pool) => pool.sum / pool.size;

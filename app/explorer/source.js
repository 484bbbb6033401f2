// Where the documents come from: the file that the page is in, or the server that sent it. What
// asks for one sees no difference.

const EMBEDDED = JSON.parse($("documents").textContent);
const SERVED = EMBEDDED.served === true;
const BLOCKS_KEPT = 16;

class Denied extends Error {}

// Documents in the page itself: some as they are, others gzipped, each a stretch of one long text.
const fileSource = {
  async get(name) {
    if (name in EMBEDDED.documents) return EMBEDDED.documents[name];
    const place = EMBEDDED.packed[name] ?? this.block(name);
    if (!place) throw new Error(`The report does not hold ${name}.`);
    const told = await unpacked(place);
    if (told.error) throw new Error(told.error);
    return told;
  },
  // Candidates come in blocks; each is named by the first in it.
  block(name) {
    const [, number] = name.match(/\/candidates\/(\d+)$/) ?? [];
    if (number === undefined) return null;
    return EMBEDDED.blocks.findLast(([first]) => first <= Number(number))?.slice(1);
  },
};

let packed = null;

async function unpacked([start, end]) {
  packed ??= $("packed").textContent;
  const text = atob(packed.slice(start, end));
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

// Documents of the server, with what was the same the last time not sent again.
const serverSource = {
  known: new Map(),
  token: stored("token"),
  async get(name) {
    const before = this.known.get(name);
    const headers = before ? { "If-None-Match": before.tag } : {};
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    const got = await fetch(`api/${name}`, { headers, cache: "no-store" })
      .catch(() => { throw new Error("the server does not answer"); });
    if (got.status === 304) return before.told;
    if (got.status === 401) throw new Denied();
    const told = await got.json();
    if (!got.ok || told.error) throw new Error(told.error ?? `status ${got.status}`);
    const tag = got.headers.get("ETag");
    if (tag) {
      this.known.set(name, { tag, told });
      if (this.known.size > BLOCKS_KEPT) this.known.delete(this.known.keys().next().value);
    }
    return told;
  },
};

const source = SERVED ? serverSource : fileSource;

const documents = {
  runs: () => source.get("runs"),
  run: (run) => source.get(`runs/${run}`),
  sentences: (run) => source.get(`runs/${run}/sentences`),
  why: (run) => source.get(`runs/${run}/why`),
  insights: (run) => source.get(`runs/${run}/insights`),
  async candidate(run, number) {
    const block = await source.get(`runs/${run}/candidates/${number}`);
    const found = block.candidates[number];
    if (!found) throw new Error(`There is no candidate ${number}.`);
    return { ...block, candidate: found };
  },
};

// What the browser remembers for the page; a file on disk may not be allowed any of it.
function stored(name) {
  try {
    return sessionStorage.getItem(`drpo.${name}`) ?? localStorage.getItem(`drpo.${name}`);
  } catch {
    return null;
  }
}

function store(name, text, { lasting = false } = {}) {
  try {
    (lasting ? localStorage : sessionStorage).setItem(`drpo.${name}`, text);
  } catch {
    // Then it is forgotten with the page.
  }
}

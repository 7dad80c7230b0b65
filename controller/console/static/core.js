// What every page stands on: the pictures as they come, the site's tables, requests with who asks, figures in words.

export const state = {
  me: null, sheet: null, head: null, at: -Infinity, connected: false, live: false, arrays: {}, index: {},
};
export const news = new EventTarget(); // "picture", "link", "sheet"
export const FLAG = { held: 1, known: 2, disobedient: 4, unheeded: 8, silent: 16, capped: 32, parked: 64 };
export const NODE = { lost: 1, dead: 2, riding: 4, metered: 8, over: 16 };
export const NO_ROW = 65535, NO_MARGIN = 32767;
const TYPES = { u1: Uint8Array, u2: Uint16Array, i2: Int16Array, f4: Float32Array };
const TOP = { u1: 255, u2: 65535 };
const STALE_MS = 3500, SLOWEST_MS = 8000, FIRST_MS = 500;
let retryMs = FIRST_MS;

export class Refused extends Error {}

export async function get(path) {
  return answer(await fetch(path, { credentials: "same-origin" }));
}

export async function send(path, body, method = "POST") {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": state.me?.csrf ?? "" };
  return answer(await fetch(path, { method, headers, credentials: "same-origin", body: body && JSON.stringify(body) }));
}

async function answer(reply) {
  if (reply.status === 401) {
    location.replace("/login" + location.hash);
    throw new Refused("signed out");
  }
  const told = await reply.json().catch(() => ({}));
  if (!reply.ok) {
    const detail = told.detail;
    throw new Refused(typeof detail === "string" ? detail : detail?.[0]?.msg ?? `the console says ${reply.status}`);
  }
  return told;
}

// ---- pictures

function decode(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0, false) !== 0x48525031) throw new Error("not a picture");
  const begin = 8 + view.getUint32(4, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, begin - 8)));
  const arrays = {};
  for (const [name, [type, offset, length, scale]] of Object.entries(head.arrays)) {
    arrays[name] = { raw: new TYPES[type](buffer, begin + offset, length), scale, top: scale ? TOP[type] : undefined };
  }
  return [head, arrays];
}

// One value of an array: a number, or NaN where it is unknown; a code as it is.
export function val(name, i) {
  const a = state.arrays[name];
  if (!a) return NaN;
  const raw = a.raw[i];
  return raw === a.top ? NaN : raw * (a.scale || 1);
}

export function margin(i) {
  const raw = state.arrays.node_margin?.raw[i] ?? NO_MARGIN;
  return raw === NO_MARGIN ? NaN : raw * state.arrays.node_margin.scale;
}

async function inflate(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

export function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/frames`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = async (event) => {
    retryMs = FIRST_MS;
    if (typeof event.data === "string") {
      const told = JSON.parse(event.data);
      state.connected = told.connected;
      if (told.sheet && told.sheet !== state.sheetNumber) await loadSheet(told.sheet);
      tellLink();
      return;
    }
    take(decode(await inflate(event.data)));
  };
  socket.onclose = (event) => {
    if (event.code === 4401) return location.replace("/login" + location.hash);
    state.connected = false;
    tellLink();
    setTimeout(connect, retryMs * (0.7 + 0.6 * Math.random()));
    retryMs = Math.min(2 * retryMs, SLOWEST_MS);
  };
}

// One that comes before the tables it belongs to waits for them.
let early = null;
function take([head, arrays]) {
  early = null;
  if (arrays.rack_w.raw.length !== state.sheet?.racks.id.length) {
    early = [head, arrays];
    return;
  }
  Object.assign(state, { head, arrays, at: performance.now() });
  tellLink();
  news.dispatchEvent(new Event("picture"));
}

async function loadSheet(number) {
  const sheet = await get("/v1/site");
  const index = {};
  for (const kind of ["racks", "nodes", "cdus", "loops", "units", "storage", "jobs"]) {
    index[kind] = new Map(sheet[kind].id.map((id, i) => [id, i]));
  }
  const children = sheet.nodes.id.map(() => []);
  sheet.nodes.parent.forEach((parent, i) => parent >= 0 && children[parent].push(i));
  Object.assign(state, { sheet, index, children, sheetNumber: number });
  news.dispatchEvent(new Event("sheet"));
  if (early) take(early);
}

function tellLink() {
  state.live = state.connected && performance.now() - state.at < STALE_MS;
  news.dispatchEvent(new Event("link"));
}
setInterval(tellLink, 1000);

// ---- figures in words

export const known = (x) => x !== null && x !== undefined && Number.isFinite(x);
export function power(w, digits) {
  if (!known(w)) return "–";
  if (Math.abs(w) >= 1e6) return (w / 1e6).toFixed(digits ?? (Math.abs(w) >= 1e8 ? 1 : 2)) + " MW";
  return (w / 1e3).toFixed(digits ?? 1) + " kW";
}
export const share = (x, digits = 0) => (known(x) ? (100 * x).toFixed(digits) + " %" : "–");
export const num = (x, digits = 0, unit = "") => (known(x) ? x.toFixed(digits) + unit : "–");
export const time = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });
export const stamp = (ms) => `${new Date(ms).toLocaleDateString([], { day: "2-digit", month: "short" })} ${time(ms)}`;
export function span(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// The limit of a row of the allocation, in words, and the page where it is seen.
export function row(number) {
  const { rows, losses, nodes } = state.sheet;
  if (number === NO_ROW) return { text: "", href: "" };
  if (number >= rows.name.length) {
    const at = number - rows.name.length, node = losses.row_node[at], lost = losses.row_case[at];
    const text = `${words(nodes.kind[node])} ${nodes.id[node]} after loss of ${words(losses.kind[lost])} ${losses.id[lost]}`;
    return { text, href: `#/node/${nodes.id[node]}` };
  }
  const kind = rows.kind[number], name = rows.name[number];
  if (kind === "envelope") return { text: "envelope", href: "#/overview" };
  if (kind === "tenant") return { text: `tenant ${name}`, href: "#/jobs" };
  return { text: `${words(kind)} ${name}`, href: kind === "cdu" || kind === "loop" ? "#/cooling" : `#/node/${name}` };
}
export const words = (name) => String(name).replaceAll("_", " ");
const ROW = 1, FLOOR = 7;
export function why(rack) {
  if (!state.head) return { text: "", href: "" };
  const reason = state.arrays.rack_reason.raw[rack];
  const at = row(state.arrays.rack_row.raw[rack]);
  if ((reason === ROW || reason === FLOOR) && at.text) return at;
  return { text: state.sheet.reasons[reason] ?? "", href: "" };
}

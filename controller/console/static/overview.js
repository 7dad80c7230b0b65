// Is the site safe, what limits it, what was done about it: in five seconds.
import { listed, line } from "./alarms.js";
import { get, known, num, power, share, span, state, val, words } from "./core.js";
import { el, Meter, panel, set, Table, tone } from "./dom.js";
import { trend } from "./draw.js";

const PAST_S = 900, AHEAD_S = 300, SLOPE_S = 90;
const NAMES = ["load_w", "envelope_w", "demand_w", "caps_w"];

export function open(page) {
  const { sheet } = state;
  const gauge = new Meter("load against envelope"), load = el("div", { class: "value big" }), of = el("p", { class: "dim" });
  const room = el("p"), limits = el("div"), plot = el("canvas", { class: "plot", role: "img", "aria-label": "load and envelope over time" });
  const past = Object.fromEntries(NAMES.map((n) => [n, []])), planned = { list: [] };
  const feeds = sheet.nodes.id.map((id, i) => i).filter((i) => ["utility_feed", "substation"].includes(sheet.nodes.kind[i]));
  const bars = feeds.map((i) => [i, new Meter(sheet.nodes.id[i]), el("td", { class: "num" }), el("td", { class: "num" })]);
  const figures = el("dl"), layers = new Table(["layer", "state"]), jobs = new Table(["job", "#level", "#capped", "because"], (r) => (location.hash = "#/jobs"));
  const alarmBox = el("div");
  layers.node.classList.add("layers");
  page.append(
    el("h1", {}, "Overview"),
    el("div", { class: "grid" },
      panel("Envelope", "w4", load, gauge.svg, of, room, limits),
      panel("Load, envelope and forecast", "w8", plot, el("div", { class: "legend" },
        key("load", "value"), key("envelope", "limit", true), key("what racks would draw", "grey"), key("forecast", "value", true))),
      panel(el("a", { href: "#/alarms" }, "Alarms"), "w6", alarmBox),
      panel(el("a", { href: "#/power" }, "Headroom per feed"), "w6", el("table", {}, el("tbody", {}, bars.map(([i, bar, w, left]) =>
        el("tr", {}, el("td", {}, el("a", { href: `#/node/${sheet.nodes.id[i]}` }, sheet.nodes.id[i])), el("td", {}, bar.svg), w, left))))),
      panel("Figures", "w3", figures), panel("Every layer", "w4", layers.node),
      panel(el("a", { href: "#/jobs" }, "Jobs held back most"), "w5", jobs.node)));
  const since = Date.now() / 1000 - PAST_S;
  NAMES.forEach(async (name) => {
    const old = (await get(`/v1/history?point=site/${name}&since_s=${since.toFixed(0)}`)).values;
    const first = past[name][0]?.[0] ?? Infinity;
    past[name].unshift(...old.filter(([t]) => t < first));
  });
  get("/v1/acts").then((told) => (planned.list = told.curtailments));

  return {
    draw(head) {
      const now = head.wall_ms / 1000;
      for (const name of NAMES) {
        past[name].push([now, head[name]]);
        while (past[name][0][0] < now - PAST_S) past[name].shift();
      }
      const left = head.envelope_w - head.load_w;
      set(load, `${power(head.load_w)} of ${power(head.envelope_w)}`);
      gauge.draw(head.load_w, head.envelope_w, Math.max(sheet.control.envelope_w, head.envelope_w) * 1.06);
      set(of, head.envelope_by || "the site's own envelope");
      set(room, left >= 0 ? `${power(left)} of headroom` : `${power(-left)} above the envelope`, left < -0.005 * head.envelope_w ? "bad" : "");
      limits.replaceChildren(...limitWords(head));
      const limit = plan(head, planned.list, now);
      const ahead = forecast(past.load_w, now, limit);
      trend(plot, [
        { values: past.demand_w.map(([t, v]) => [t, v + head.other_w]), tone: "grey", thick: 1 },
        { values: [...past.envelope_w, ...limit], tone: "limit", step: true, dash: [8, 3], thick: 2 },
        { values: past.load_w, tone: "value" }, { values: ahead, tone: "value", dash: [4, 4] },
      ], { from: Math.max(now - PAST_S, Math.min(past.load_w[0][0], now - SLOPE_S)), to: now + AHEAD_S, now });
      for (const [i, bar, w, rest] of bars) {
        const full = sheet.nodes.full_w[i], at = val("node_load", i) * full, limit = val("node_limit", i) * full;
        bar.draw(at, limit);
        set(w, `${power(at)} of ${power(limit)}`);
        set(rest, `${power(limit - at)} left`, limit - at < 0 ? "bad" : "");
      }
      pairs(figures, facts(head));
      layers.draw(states(head));
      jobs.draw(head.jobs.filter((j) => j.capped > 0).map((j) => [j.id, j.level.toFixed(2), `${j.capped}/${j.racks}`, j.why]), "no job is held back");
      const list = listed(head);
      alarmBox.replaceChildren(...(list.length ? list.slice(0, 5).map(line) : [el("p", { class: "dim" }, "none")]),
        ...(list.length > 5 ? [el("a", { href: "#/alarms" }, `and ${list.length - 5} more`)] : []));
    },
  };
}

const key = (text, tone, dash) => {
  const mark = el("i", dash ? { class: "dash" } : {});
  mark.style.color = `var(--${tone})`;
  return el("span", {}, mark, text);
};

function limitWords(head) {
  const found = Object.entries(head.reasons).sort((a, b) => b[1] - a[1]).slice(0, 3);
  if (!found.length) return [el("p", { class: "dim" }, "nothing limits any rack")];
  return [el("p", {}, `${head.racks_capped} of ${head.racks} racks have less than they want:`),
    ...found.map(([text, n]) => el("p", { class: "dim" }, `${n} × ${text}`))];
}

// A straight line through the last minute and a half, held by the envelope to come; never a promise, so it is dashed.
function forecast(load, now, limit) {
  const points = load.filter(([t, v]) => t > now - SLOPE_S && known(v));
  if (points.length < 20) return [];
  const n = points.length, mt = points.reduce((s, [t]) => s + t, 0) / n, mv = points.reduce((s, [, v]) => s + v, 0) / n;
  const slope = points.reduce((s, [t, v]) => s + (t - mt) * (v - mv), 0) / points.reduce((s, [t]) => s + (t - mt) ** 2, 1e-9);
  const last = points[n - 1][1];
  return limit.map(([t, most]) => [t, Math.min(last + slope * (t - now), Math.max(most, last))]);
}

function plan(head, curtailments, now) {
  const at = (t) => Math.min(head.envelope_by ? head.envelope_w : state.sheet.control.envelope_w,
    ...curtailments.filter((c) => c.from_ms / 1000 <= t && t < c.until_ms / 1000).map((c) => c.envelope_w));
  return Array.from({ length: 31 }, (_, k) => now + (k * AHEAD_S) / 30).map((t) => [t, at(t)]);
}

function facts(head) {
  const security = head.security, first = head.bottlenecks[0];
  return [
    ["racks", power(head.racks_w)], ["wanted by racks", power(head.demand_w)], ["capped at", power(head.caps_w)],
    ["load over racks", head.racks_w > 0 ? (head.load_w / head.racks_w).toFixed(3) : "–", "like a PUE: battery power counts as saved"],
    ["losses secured", security ? `${security.losses - security.not_secured} of ${security.losses}` : "not known yet"],
    ["dearest limit", first ? first.name : "none"],
  ];
}

export function pairs(list, rows) {
  rows.forEach(([name, text, title], i) => {
    const dt = list.children[2 * i] ?? list.appendChild(el("dt")), dd = list.children[2 * i + 1] ?? list.appendChild(el("dd"));
    set(dt, name);
    set(dd, String(text));
    if (title) dt.title = title;
  });
  while (list.children.length > 2 * rows.length) list.lastChild.remove();
}

// Each layer of the line, from the wires to the orders: grey words when all is well.
function states(head) {
  const points = head.points, all = Object.values(points).reduce((a, b) => a + b, 0), good = points.good / Math.max(all, 1);
  const sets = head.security?.sets_age_s, ok = (fine, text) => ({ text: fine ? text : `▲ ${text}`, kind: fine ? "" : "warn" });
  return [
    ["wires", ok(!head.wires_down, `${head.wires - head.wires_down} of ${head.wires} up, ${num(head.points_per_s)} points/s`)],
    ["points", ok(good > 0.995, `${share(good, 2)} good` + (points.stale + points.never ? `, ${points.stale + points.never} silent` : ""))],
    ["estimate", ok(head.racks_known === head.racks, `${head.racks_known} of ${head.racks} racks known`)],
    ["limits", ok(!head.envelope_by, head.envelope_by || "as built")],
    ["losses", ok(known(sets) && sets < 30, known(sets) ? `answers kept ready, ${span(sets)} old` : "answers not ready yet")],
    ["allocation", ok(!head.racks_capped_without_reason, `${head.racks_capped} racks capped, each with its reason`)],
    ["shedding", ok(!head.shed, head.shed ? `${head.shed.racks} racks shed` : "none")],
    ["cycle", ok(!head.failed_cycles, `${num(head.step_ms, 0, " ms")}, ${head.late_cycles ?? 0} late, ${head.failed_cycles ?? 0} failed`)],
    ["mode", ok(head.mode === "live", words(head.mode))],
  ];
}

// Plots of any point: the past hour from the console's memory, what is older from the site's history.
import { get, known, num, power, state } from "./core.js";
import { el, panel, toast } from "./dom.js";
import { trend } from "./draw.js";

const HOUR_S = 3600, TONES = ["value", "limit", "plan", "trend", "light", "low"];

// Series of points, read once and then every `againS`; `draw` plots them as they are.
export function past(points, backS = HOUR_S, againS = 10) {
  let read = 0, series = [];
  return {
    series: () => series,
    draw(canvas, tones, head, { ahead = [], from, to, unit = power, low } = {}) {
      const now = head.wall_ms / 1000;
      if (now - read > againS) {
        read = now;
        Promise.all(points.map((p) => get(`/v1/history?point=${encodeURIComponent(p)}&since_s=${(now - backS).toFixed(0)}`)))
          .then((told) => (series = told.map((t) => t.values)), () => {});
      }
      const first = Math.min(...series.flatMap((s) => s[0]?.[0] ?? now), now - 60);
      trend(canvas, [...series.map((values, i) => ({ values, tone: tones[i]?.[0], dash: tones[i]?.[1], step: tones[i]?.[2] })), ...ahead],
        { from: from ?? Math.max(first, now - backS), to: to ?? now, unit, low });
    },
  };
}

// A point of the history on the disk; the same `draw`. Mean, and least and most of each bin.
function stored(point, backS) {
  let read = 0, series = [[], [], []];
  return {
    series: () => series,
    draw(canvas, tones, head, { unit = power } = {}) {
      const now = head.wall_ms / 1000;
      if (now - read > Math.max(5, backS / 500)) {
        read = now;
        get(`/v1/series?point=${encodeURIComponent(point)}&from_ms=${head.wall_ms - backS * 1000}&to_ms=${head.wall_ms}`)
          .then((t) => (series = ["mean", "low", "high"].map((k) => t.t_ms.map((ms, i) => [ms / 1000, t[k][i]]))), () => {});
      }
      trend(canvas, series.map((values, i) => ({ values, tone: i ? "trend" : "value" })), { from: now - backS, to: now, unit });
    },
  };
}

export function open(page) {
  const { racks, nodes, loops } = state.sheet;
  const names = el("datalist", { id: "points" },
    ["load_w", "envelope_w", "caps_w", "demand_w", "racks_w", "racks_capped", "step_ms"].map((n) => el("option", { value: `site/${n}` })),
    loops.id.flatMap((id) => ["supply_c", "return_c"].map((p) => el("option", { value: `loop/${id}/${p}` }))),
    nodes.id.flatMap((id, i) => (nodes.kind[i] === "pdu" ? [] : [el("option", { value: `node/${id}/load` })])),
    racks.id.map((id) => el("option", { value: `rack/${id}/w` })));
  const box = el("input", { list: "points", placeholder: "site/load_w, rack/ID/w, node/ID/load ..", "aria-label": "point to plot", size: 34 });
  const spans = [[5, "5 min"], [15, "15 min"], [60, "1 h"], [480, "8 h"], [1440, "1 day"], [10080, "1 week"]];
  const minutes = el("select", { "aria-label": "how far back" }, spans.map(([m, name]) => el("option", { value: m, selected: m === 15 }, name)));
  const older = el("datalist", { id: "stored" });
  box.addEventListener("input", () => {
    if (/^(site|rack|node|loop)\//.test(box.value)) return box.setAttribute("list", "points");
    get(`/v1/points?like=${encodeURIComponent(box.value)}`).then((t) => {
      older.replaceChildren(...t.points.map((name) => el("option", { value: name })));
      box.setAttribute("list", t.points.length ? "stored" : "points");
    }, () => {});
  });
  const plots = el("div", { class: "grid" });
  const shown = new Map();
  const add = (point) => {
    if (!point || shown.has(point)) return;
    const canvas = el("canvas", { class: "plot" }), now = el("span", { class: "value" });
    const close = el("button", { type: "button", "aria-label": `close ${point}`, onclick: () => { shown.delete(point); part.remove(); } }, "×");
    const part = panel(el("span", { class: "buttons" }, point, now, close), shown.size || innerWidth < 900 ? "w6" : "w12", canvas);
    const show = (make) => { shown.set(point, { canvas, now, make, by: new Map() }); plots.append(part); };
    const wall = Date.now();
    get(`/v1/history?point=${encodeURIComponent(point)}&since_s=9e9`).then(() => show((backS) => past([point], backS, backS > 900 ? 10 : 2)),
      () => get(`/v1/series?point=${encodeURIComponent(point)}&from_ms=${wall - 1000}&to_ms=${wall}`)
        .then(() => show((backS) => stored(point, backS)), (error) => toast(error.message, true)));
  };
  page.append(el("h1", {}, "History"), el("form", { class: "buttons", onsubmit: (e) => { e.preventDefault(); add(box.value.trim()); box.value = ""; } },
    box, names, older, minutes, el("button", { type: "submit" }, "Plot")),
    el("p", { class: "dim" }, "site/, rack/, node/ and loop/ are the past hour as this console has seen it. Any other name is a point of the site's history, as far back as it goes: type a part of it."), plots);
  add("site/load_w");
  return { draw(head) {
    for (const [point, { canvas, now, make, by }] of shown) {
      const back = Number(minutes.value) * 60;
      if (!by.has(back)) by.set(back, make(back));
      const unit = /_c$/.test(point) ? (v) => num(v, 1, " °C") : /(_w|^site.*load|envelope.*)$|^node/.test(point) && !/_ms$/.test(point) ? power : /(_ms|capped)$/.test(point) ? (v) => num(v, 0) : (v) => num(v, 2);
      by.get(back).draw(canvas, TONES.map((t) => [t]), head, { unit });
      const values = by.get(back).series()[0] ?? [], last = values[values.length - 1]?.[1];
      now.textContent = known(last) ? unit(last) : "";
    }
  } };
}

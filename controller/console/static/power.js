// Electrical one-line: a node, what feeds it, and what hangs on its bus; click or Enter to go down.
import { known, margin, NODE, num, power, share, state, val, why, words } from "./core.js";
import { button, confirmAct, el, Meter, panel, set, Table, toneOf } from "./dom.js";
import { past } from "./history.js";
import { pairs } from "./overview.js";

const TIES = 12, PDU = "pdu";

export function open(page, id) {
  return id ? one(page, state.index.nodes.get(id), id) : top(page);
}

function top(page) {
  const { nodes } = state.sheet, feeds = nodes.parent.flatMap((p, i) => (p < 0 ? [i] : []));
  page.append(el("h1", {}, "Electrical"), el("p", { class: "dim" }, "From the utility down. Margin: what the worst single loss would leave free."));
  const parts = feeds.map((feed) => {
    const under = state.children[feed].flatMap((sub) => [sub, ...state.children[sub]]);
    const boxes = [feed, ...under].map(box);
    const subs = boxes.filter((b) => state.children[feed].includes(b.i)), rest = boxes.filter((b) => b.i !== feed && !subs.includes(b));
    rest.sort((a, b) => nodes.kind[a.i].localeCompare(nodes.kind[b.i]));
    page.append(el("section", { class: "panel" }, boxes[0].node, el("div", { class: "bus" }, subs.map(drop)), bus(rest)));
    return boxes;
  }).flat();
  const switches = new Table(["switch", "kind", "joins", "normal"]);
  const { id, kind, a, b, normal } = state.sheet.switches;
  switches.draw(id.map((name, k) => [name, words(kind[k]), `${a[k]} – ${b[k]}`, normal[k]]).slice(0, TIES));
  page.append(panel("Ties and transfer switches", "w12", switches.node));
  return { draw: () => parts.forEach((b) => b.draw()) };
}

function one(page, i, id) {
  if (i === undefined) throw new Error(`there is no node ${id}`);
  const { nodes, racks } = state.sheet;
  const path = [];
  for (let at = i; at >= 0; at = nodes.parent[at]) path.unshift(at);
  const self = box(i), below = state.children[i].filter((c) => nodes.kind[c] !== PDU).map(box), facts = el("dl"), plot = el("canvas", { class: "plot" });
  const under = racksUnder(i), cells = new Table(["rack", "#draws", "#cap", "#wants", "because"], (r) => (location.hash = r[0].href));
  const history = past([`node/${id}/load`, `node/${id}/limit`]);
  page.append(el("nav", { class: "crumbs", "aria-label": "path from the utility" }, el("a", { href: "#/power" }, "utility"),
    path.flatMap((p) => ["›", el("a", { href: `#/node/${nodes.id[p]}` }, nodes.id[p])])),
    el("h1", {}, `${words(nodes.kind[i])} ${id}`),
    el("div", { class: "grid" }, panel("Now", "w4", self.node, facts, actions(id, under.length)), panel("Past hour: load and limit", "w8", plot)));
  if (below.length) page.append(el("section", {}, bus(below)));
  if (under.length) page.append(panel(`Racks with a cord below it: ${under.length}`, "w12", cells.node));
  const switches = state.sheet.switches.id.filter((_, k) => [state.sheet.switches.a[k], state.sheet.switches.b[k]].includes(id));
  return { draw(head) {
    self.draw();
    below.forEach((b) => b.draw());
    const full = nodes.full_w[i], load = val("node_load", i) * full, limit = val("node_limit", i) * full, left = margin(i);
    pairs(facts, [["load", power(load)], ["limit now", power(limit)], ["rating", `${num(nodes.rating[i])} ${nodes.rating_unit[i]}`],
      ["share of limit", share(load / limit, 1)], ["trip curve used", `${share(val("node_trip", i), 0)}${nodes.trip_curve[i] ? ` of ${nodes.trip_curve[i]}` : ""}`],
      ["margin after worst loss", known(left) ? share(left, 1) : "not counted on"], ["meter", val("node_flags", i) & NODE.metered ? "fresh and good" : "none, or not good"],
      ["switches", switches.join(", ") || "none"]]);
    history.draw(plot, [["value"], ["limit", [8, 3]]], head);
    const shown = under.map((r) => [r, val("rack_cap_w", r) - val("rack_wants_w", r)]).sort((a, b) => a[1] - b[1]).slice(0, 30);
    cells.draw(shown.map(([r]) => rackLine(r)));
  } };
  function rackLine(r) {
    return [{ text: racks.id[r], href: `#/rack/${racks.id[r]}` }, power(val("rack_w", r)), power(val("rack_cap_w", r)), power(val("rack_wants_w", r)), why(r).text];
  }
}

function actions(id, racks) {
  if (!racks) return null;
  const act = (kind, title) => () => confirmAct(`${title} ${id} (${racks} racks)`, { act: kind, node: id });
  return el("div", { class: "buttons" }, button("Hold", "operator", act("hold", "Hold all racks below")), button("Release", "operator", act("release", "Release all racks below")),
    button("Maintenance", "operator", act("park", "Maintenance: to the safe caps, all racks below")), button("End maintenance", "operator", act("unpark", "End maintenance below")));
}

function racksUnder(i) {
  const { racks } = state.sheet, found = new Set([i]), stack = [i];
  while (stack.length) for (const c of state.children[stack.pop()]) { found.add(c); stack.push(c); }
  return racks.id.flatMap((_, r) => (found.has(racks.pdu_a[r]) || found.has(racks.pdu_b[r]) ? [r] : []));
}

const drop = (b) => el("div", { class: "drop" }, b.node);
const bus = (boxes) => el("div", { class: "bus" }, boxes.map(drop));

// One node of the one-line: load on its limit, trip-curve state, margin.
function box(i) {
  const { nodes } = state.sheet, id = nodes.id[i], meter = new Meter(id), figures = el("div", { class: "value" }), mark = el("span"), more = el("div", { class: "dim" });
  const node = el("button", { class: "node", type: "button", onclick: () => (location.hash = `#/node/${id}`) },
    el("span", { class: "kind" }, words(nodes.kind[i]), mark), el("strong", {}, id), figures, meter.svg, more);
  return { i, node, draw() {
    const full = nodes.full_w[i], load = val("node_load", i) * full, limit = val("node_limit", i) * full, flags = val("node_flags", i), used = val("node_trip", i), left = margin(i);
    meter.draw(load, limit);
    set(figures, `${power(load)} / ${power(limit)}`);
    set(mark, flags & NODE.lost ? "✕ LOST" : flags & NODE.dead ? "✕ NO VOLTAGE" : flags & NODE.riding ? "▲ ON BATTERY" : flags & NODE.over ? "▲ OVER" : "");
    mark.className = flags & (NODE.lost | NODE.dead | NODE.over) ? "dead" : "warn";
    set(more, [used > 0.01 ? `trip ${share(used)}` : "", known(left) ? `N-1 ${share(left)}` : ""].filter(Boolean).join(" · ") || "\u00a0");
    node.className = `node ${flags & (NODE.lost | NODE.dead) ? "bad" : flags & NODE.riding || used > 0.5 ? "warn" : toneOf(load, limit)}`;
  } };
}

// One rack: its trend, its caps, the limit that binds, the next one, what would help; hold, release, maintenance.
import { FLAG, get, num, power, share, state, val, why, words } from "./core.js";
import { button, confirmAct, el, panel, set } from "./dom.js";
import { past } from "./history.js";
import { pairs } from "./overview.js";

const AGAIN_MS = 10_000;

export function open(page, id) {
  const i = state.index.racks.get(id);
  if (i === undefined) throw new Error(`there is no rack ${id}`);
  const { racks, nodes, cdus, jobs } = state.sheet;
  const facts = el("dl"), told = el("div"), plot = el("canvas", { class: "plot tall" }), water = el("dl"), badge = el("span", { class: "warn" });
  const history = past(["w", "cap_w", "wants_w"].map((p) => `rack/${id}/${p}`), 3600, 5);
  const act = (kind, title) => () => confirmAct(`${title} ${id}`, { act: kind, rack: id }).then(ask);
  const buttons = { hold: button("Hold", "operator", act("hold", "Hold rack")), release: button("Release", "operator", act("release", "Release rack")),
    park: button("Maintenance", "operator", act("park", "Maintenance: to the safe cap, rack")), unpark: button("End maintenance", "operator", act("unpark", "End maintenance of rack")) };
  const path = (pdu) => {
    const way = [];
    for (let at = pdu; at >= 0; at = nodes.parent[at]) way.unshift(el("a", { href: `#/node/${nodes.id[at]}` }, nodes.id[at]), " › ");
    return el("p", {}, way.slice(0, -1));
  };
  page.append(el("nav", { class: "crumbs" }, el("a", { href: "#/floor" }, "floor"), "›", racks.hall[i], "›", racks.row[i]),
    el("h1", {}, `Rack ${id} `, badge),
    el("div", { class: "grid" }, panel("Now", "w4", facts, el("p", { class: "buttons" }, Object.values(buttons))),
      panel("Past hour: draws, cap (dashed), wants", "w8", plot),
      panel("Why", "w7", told), panel("Water and cords", "w5", water, el("h3", {}, "cord A"), path(racks.pdu_a[i]), el("h3", {}, "cord B"), path(racks.pdu_b[i]))));
  let asked = 0;
  async function ask() {
    asked = performance.now();
    try {
      told.replaceChildren(...(await get(`/v1/racks/${encodeURIComponent(id)}/explain`)).lines.map((text) => el("p", {}, text)));
    } catch (error) {
      told.replaceChildren(el("p", { class: "dim" }, error.message));
    }
  }
  ask();
  return { draw(head) {
    const flags = val("rack_flags", i), at = why(i), c = racks.cdu[i], job = jobs.id[racks.job[i]];
    pairs(facts, [["draws", power(val("rack_w", i))], ["cap", power(val("rack_cap_w", i))], ["wants", power(val("rack_wants_w", i))], ["level", num(val("rack_level", i), 2)],
      ["because", at.text], ["job", job ? `${job} (${words(jobs.kind[racks.job[i]])})` : "none"], ["class", racks.priority[i]],
      ["nameplate, floor, safe cap", [racks.max_w[i], racks.floor_w[i], racks.safe_cap_w[i]].map((w) => power(w)).join(", ")], ["GPUs", `${racks.gpus[i]} × ${racks.gpu_model[i]}`]]);
    set(badge, [val("rack_shed", i) ? "✕ shed" : "", flags & FLAG.parked ? "in maintenance" : flags & FLAG.held ? "held" : "", flags & FLAG.disobedient ? "✕ does not obey" : "", flags & FLAG.silent ? "▲ agent silent" : ""].filter(Boolean).join(" · "));
    buttons.hold.hidden = Boolean(flags & FLAG.held);
    buttons.release.hidden = !(flags & FLAG.held) || Boolean(flags & FLAG.parked);
    buttons.park.hidden = Boolean(flags & FLAG.parked);
    buttons.unpark.hidden = !(flags & FLAG.parked);
    pairs(water, [["CDU", cdus.id[c]], ["loop", state.sheet.loops.id[racks.loop[i]]], ["supply", num(val("cdu_supply_c", c), 1, " °C")], ["return", num(val("cdu_return_c", c), 1, " °C")],
      ["flow", num(val("cdu_flow_lpm", c), 0, " L/min")], ["pump", share(val("cdu_pump", c))]]);
    history.draw(plot, [["value"], ["limit", [5, 3], true], ["grey"]], head);
    if (performance.now() - asked > AGAIN_MS) ask();
  } };
}

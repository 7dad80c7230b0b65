// Plant, loops and coolant units: flows, temperatures, pumps, and whether the heat adds up.
import { known, num, power, share, state, val, words } from "./core.js";
import { el, Meter, panel, Table } from "./dom.js";


const APART = 0.1; // heat and power of a loop this far apart are worth a look

export function open(page) {
  const { loops, units, cdus, racks } = state.sheet;
  const table = new Table(["loop", "#supply", "#return", "#flow", "heat on its limit", "#racks draw", "#water takes", "#balance"]);
  const worst = new Table(["CDU", "kind", "#flow", "#supply", "#return", "#pump", "#heat of rating"], (r) => (location.hash = r[0].href || "#/cooling"));
  const storage = new Table(["storage", "#power", "#charge"]);
  const parts = loops.id.map((id, i) => ({ meter: new Meter(id), units: units.id.flatMap((_, u) => (units.loop[u] === i ? [u] : [])),
    racks: racks.id.flatMap((_, r) => (racks.loop[r] === i ? [r] : [])), box: el("div", { class: "units" }) }));
  const first = new Map(cdus.id.map((_, c) => [c, -1]));
  racks.cdu.forEach((c, r) => first.get(c) === -1 && first.set(c, r));
  const badges = new Map();
  for (const part of parts) for (const u of part.units) {
    badges.set(u, el("span", { class: "unit" }));
    part.box.append(badges.get(u));
  }
  page.append(el("h1", {}, "Cooling"), panel("Facility-water loops", "w12", table.node), panel("Pumps and heat rejection", "w12", el("dl", {}, parts.flatMap((part, i) => [el("dt", {}, loops.id[i]), el("dd", {}, part.box)]))),
    el("p", { class: "dim" }, "Balance: heat that the water takes away, over the power of the racks on the loop. Valve positions are measured by no device of this site."),
    el("div", { class: "grid" }, panel("Coolant units to look at first: hottest return, least flow", "w8", worst.node), panel("Storage", "w4", storage.node)));
  return { draw() {
    table.draw(parts.map((part, i) => {
      const draws = part.racks.reduce((sum, r) => sum + (known(val("rack_w", r)) ? val("rack_w", r) : 0), 0), heat = val("loop_heat_w", i), supply = val("loop_supply_c", i), back = val("loop_return_c", i);
      const ratio = heat / draws, hot = supply > loops.supply_c[i] + 2;
      part.meter.draw(val("loop_load_w", i), val("loop_limit_w", i), Math.max(loops.cap_w[i], val("loop_limit_w", i)));
      for (const u of part.units) show(u);
      return [loops.id[i], { text: num(supply, 1, " °C"), kind: hot ? "warn" : "" }, { text: num(back, 1, " °C"), kind: back > loops.return_max_c[i] - 1 ? "warn" : "" },
        num(val("loop_flow_lpm", i), 0, " L/min"), part.meter.svg, power(draws), power(heat), { text: share(ratio), kind: Math.abs(ratio - 1) > APART ? "warn" : "" }];
    }));
    const order = cdus.id.map((_, c) => [c, score(c)]).sort((a, b) => b[1] - a[1]).slice(0, 14);
    worst.draw(order.map(([c]) => {
      const r = first.get(c);
      return [{ text: cdus.id[c], href: r >= 0 ? `#/rack/${racks.id[r]}` : "" }, words(cdus.kind[c]), { text: num(val("cdu_flow_lpm", c), 0, " L/min"), kind: val("cdu_flow_lpm", c) < 0.7 * cdus.flow_lpm[c] ? "warn" : "" },
        num(val("cdu_supply_c", c), 1, " °C"), num(val("cdu_return_c", c), 1, " °C"), share(val("cdu_pump", c)), share(val("cdu_heat", c))];
    }));
    storage.draw(state.sheet.storage.id.map((id, i) => [id, power(val("storage_w", i)), share(val("storage_soc", i))]), "none at this site");
  } };
  function score(c) {
    const flow = val("cdu_flow_lpm", c) / cdus.flow_lpm[c];
    return (known(flow) ? 60 * Math.max(0, 1 - flow) : 30) + (known(val("cdu_return_c", c)) ? val("cdu_return_c", c) : 40);
  }
  function show(u) {
    const node = badges.get(u), there = val("unit_available", u), runs = val("unit_running", u) > 0.5, lost = there < 0.5;
    const speed = val("unit_speed", u), text = `${lost ? "✕ " : runs ? "" : "○ "}${short(units.id[u])}${runs && known(speed) ? ` ${share(speed)}` : runs ? ` ${power(val("unit_w", u), 0)}` : units.standby[u] ? " standby" : " off"}`;
    if (node.textContent !== text) node.textContent = text;
    node.className = `unit ${lost ? "lost" : runs ? "" : "off"}`;
    node.title = units.id[u];
  }
}
const short = (id) => id.split("-").pop();


// The floor: every rack as a cell, coloured by what one wants to see.
import { FLAG, known, num, power, share, state, val, why } from "./core.js";
import { el, panel, set } from "./dom.js";
import { blue, colour, grey, RackMap } from "./draw.js";

const WARM_C = 3; // this close to the hottest return that a loop allows
const LOOKS = {
  power: ["Power", (i) => grey(val("rack_w", i) / state.sheet.racks.max_w[i]), [["dark: idle", grey(0.1)], ["light: nameplate", grey(1)]]],
  cap: ["Cap", (i) => grey(val("rack_cap_w", i) / state.sheet.racks.max_w[i]), [["dark: low cap", grey(0.3)], ["light: nameplate", grey(1)]]],
  level: ["Level", (i) => blue(val("rack_shed", i) ? 0 : val("rack_level", i)), [["grey: as fast as it asks", blue(1)], ["blue: slowed by a cap", blue(0.3)]]],
  temperature: ["Temperature", warmth, [["dark: 25 °C return", grey(0)], ["light: 50 °C", grey(1)], ["near its limit", "var(--warn)"]]],
  trust: ["Trust", trust, [["good", grey(0.45)], ["doubted or silent", "var(--warn)"], ["does not obey", "var(--bad)"]]],
};
let look = "power";

function warmth(i) {
  const { cdu, loop } = state.sheet.racks, at = cdu[i], c = val("cdu_return_c", at), most = state.sheet.control.supply_max_c + 15;
  if (!known(c)) return "#000";
  return c > Math.min(most, state.sheet.loops.return_max_c[loop[i]] + 12) - WARM_C ? colour("warn") : grey((c - 25) / 25);
}

function trust(i) {
  const flags = val("rack_flags", i);
  if (flags & (FLAG.disobedient | FLAG.unheeded)) return colour("bad");
  return flags & FLAG.silent || !(flags & FLAG.known) ? colour("warn") : grey(0.45);
}

export function open(page) {
  const { racks } = state.sheet, canvas = el("canvas", { class: "map", role: "application", "aria-label": "racks; arrow keys move, Enter opens" });
  const tip = el("div", { id: "tip", hidden: true }), legend = el("div", { class: "legend" }), spoken = el("p", { role: "status", class: "dim" });
  const choose = el("div", { class: "buttons", role: "group", "aria-label": "colour by" }, Object.entries(LOOKS).map(([key, [title]]) =>
    el("button", { type: "button", "data-look": key, "aria-pressed": String(key === look), onclick: () => pick(key) }, title)));
  page.append(el("h1", {}, "Floor map"), panel(choose, "w12", canvas, legend, spoken), tip);
  const map = new RackMap(canvas, state.sheet, { hover, pick: (i) => (location.hash = `#/rack/${racks.id[i]}`) });
  const cross = (i) => {
    const flags = val("rack_flags", i);
    if (val("rack_shed", i) || flags & FLAG.disobedient) return colour("bad");
    if (flags & FLAG.parked) return colour("plan");
    return look === "trust" && flags & FLAG.silent ? colour("back") : "";
  };
  const swatches = () => legend.replaceChildren(...[...LOOKS[look][2], ["✕ shed or disobeying", "var(--bad)"], ["✕ in maintenance", "var(--plan)"]].map(([text, tone]) => {
    const mark = el("span", { class: "swatch" });
    mark.style.background = tone;
    return el("span", {}, mark, text);
  }));
  function pick(key) {
    look = key;
    for (const b of choose.children) b.setAttribute("aria-pressed", String(b.dataset.look === key));
    swatches();
    draw(state.head);
  }
  function hover(i, event) {
    tip.hidden = i < 0 || !event;
    if (i < 0) return;
    const flags = val("rack_flags", i), at = why(i);
    const text = `${racks.id[i]}  ${state.sheet.jobs.id[racks.job[i]] ?? ""}\n${power(val("rack_w", i))} of ${power(val("rack_cap_w", i))}, wants ${power(val("rack_wants_w", i))}\n` +
      `level ${num(val("rack_level", i), 2)} · return ${num(val("cdu_return_c", racks.cdu[i]), 1, " °C")}\n${at.text}` +
      `${flags & FLAG.held ? "\nheld" : ""}${flags & FLAG.parked ? ", in maintenance" : ""}${flags & FLAG.silent ? "\nagent silent" : ""}${flags & FLAG.disobedient ? "\ndraws more than its cap" : ""}`;
    if (!event) return set(spoken, text.replaceAll("\n", ", "));
    tip.textContent = text;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 270)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - 110)}px`;
  }
  function draw(head) {
    if (!head) return;
    map.draw(LOOKS[look][1], cross);
    if (map.at < 0) set(spoken, `${head.racks} racks, ${head.racks_capped} capped, ${head.racks - head.racks_known} not known, ${share(head.racks_w / racks.max_w.reduce((a, b) => a + b, 0))} of nameplate drawn`);
  }
  swatches();
  return { draw, leave: () => tip.remove() };
}

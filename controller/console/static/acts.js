// What operators ask of the site: envelope, planned curtailments, mode; who did what, and taking it back.
import { said } from "./alarms.js";
import { get, power, send, stamp, state } from "./core.js";
import { button, confirmAct, el, panel, set, Table, toast } from "./dom.js";

const pad = (n) => String(n).padStart(2, "0");
const local = (d) => `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}T${pad(d.getHours())}:${pad(d.getMinutes())}`;

export function open(page) {
  const top = state.sheet.control.envelope_w / 1e6;
  const mw = (name) => el("input", { name, type: "number", min: 0.001, max: top, step: "any", required: true, inputmode: "decimal" });
  const now = el("p"), held = el("p", { class: "dim" }), log = new Table(["when", "who", "what", "~why", ""]);
  const plans = new Table(["to", "from", "until", "by", ""]);
  const envelope = el("form", { class: "rows" }, el("label", {}, `Envelope, MW (the site's own: ${top})`, mw("mw")), el("label", {}, "Within, seconds (empty: by the site's ramp)", el("input", { name: "within", type: "number", min: 1, max: 86400 })),
    el("div", { class: "buttons" }, button("Lower the envelope ..", "operator", null, { type: "submit" }), button("Release", "operator", () => confirmAct("Release the envelope", { act: "envelope", mw: null }).then(refresh))));
  envelope.addEventListener("submit", (event) => {
    event.preventDefault();
    const told = new FormData(envelope), within = Number(told.get("within"));
    confirmAct(`Envelope ${told.get("mw")} MW`, { act: "envelope", mw: Number(told.get("mw")), ...(within ? { within_s: within } : {}) }).then(refresh);
  });
  const begin = new Date(Date.now() + 30 * 60e3), end = new Date(Date.now() + 90 * 60e3);
  const curtail = el("form", { class: "rows", id: "curtail" }, el("label", {}, "To, MW", mw("mw")),
    el("label", {}, "Reached by", el("input", { name: "from", type: "datetime-local", value: local(begin), required: true })),
    el("label", {}, "Until", el("input", { name: "until", type: "datetime-local", value: local(end), required: true })),
    el("div", { class: "buttons" }, button("Schedule ..", "operator", null, { type: "submit" })));
  curtail.addEventListener("submit", (event) => {
    event.preventDefault();
    const told = new FormData(curtail), from = Date.parse(told.get("from")), until = Date.parse(told.get("until"));
    if (!(until > from)) return toast("it ends after it begins", true);
    confirmAct(`Curtailment to ${told.get("mw")} MW, ${stamp(from)} to ${stamp(until)}`, { act: "curtail", mw: Number(told.get("mw")), from_ms: from, until_ms: until }).then(refresh);
  });
  const modes = el("div", { class: "buttons" }, ["live", "hold", "shadow", "off"].map((m) => button(m.toUpperCase(), "engineer", () => confirmAct(`Mode ${m.toUpperCase()}`, { act: "mode", mode: m }).then(refresh), { "data-mode": m })));
  page.append(el("h1", {}, "Acts"), el("div", { class: "grid" }, panel("Envelope", "w4", now, envelope), panel("Schedule a curtailment", "w4", curtail),
    panel("Mode", "w4", modes, el("p", { class: "dim" }, "hold: renew and lower only. shadow: write nothing. off: ramp to the safe caps, then nothing."), held),
    panel("Planned and under way", "w12", plans.node), panel("What was done", "w12", log.node)));
  async function refresh() {
    const told = await get("/v1/acts");
    set(held, `${told.held.length} racks held, ${told.parked.length} in maintenance`);
    plans.draw(told.curtailments.map((c) => [power(c.envelope_w), stamp(c.from_ms), stamp(c.until_ms), c.by, button("Cancel ..", "operator", () => confirmAct("Cancel the curtailment", { act: "cancel", plan: c.id }).then(refresh))]), "none");
    log.draw(told.acts.slice(0, 60).map((a) => [stamp(a.at_ms), a.by, said(a), a.why, a.undo && !a.undoes ? button("Undo ..", "operator", () => back(a)) : ""]), "nobody has acted yet");
  }
  const back = (a) => confirmAct(`Take back: ${said(a)}`, {}, () => send(`/v1/acts/${a.id}/undo`, { why: document.getElementById("why").value.trim() }), false).then(refresh);
  refresh();
  let seen = "";
  return { draw(head) {
    set(now, `${power(head.envelope_w)} in force${head.envelope_by ? `: ${head.envelope_by}` : ""}`);
    for (const b of modes.children) b.setAttribute("aria-pressed", String(b.dataset.mode === head.mode));
    const mark = head.envelope_by + head.mode;
    if (mark !== seen) refresh();
    seen = mark;
  } };
}

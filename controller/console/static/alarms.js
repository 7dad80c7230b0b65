// What needs a person: each alarm with its priority, what caused it and where to look.
import { get, send, span, stamp, state, words } from "./core.js";
import { button, confirmAct, el, panel, Table, toast } from "./dom.js";

const RANK = { critical: 1, high: 2, medium: 3, low: 4 }, MARK = { 1: "■ 1", 2: "▲ 2", 3: "● 3", 4: "○ 4" };
export const rank = (alarm) => RANK[alarm.priority] ?? Number(alarm.priority);
const aside = (alarm) => ["shelved", "out_of_service", "suppressed"].includes(alarm.state);
export const standing = (alarm) => !aside(alarm);
const ID = /[a-z0-9][a-z0-9._-]*[a-z0-9]/gi;

// The alarms of a picture, whichever form it has them in.
export function listed(head) {
  if (head.alarm_list) return head.alarm_list;
  return head.alarms.map((text, i) => ({ id: text, text, priority: /^CRITICAL|exceeded|^lost/.test(text) ? 1 : 2, state: "standing", element: "", order: i }));
}

// Where the cause of an alarm is seen: the element that it names.
export function cause(alarm) {
  for (const id of [alarm.element, ...(alarm.text.match(ID) ?? [])]) {
    if (state.index.nodes.has(id)) return `#/node/${id}`;
    if (state.index.racks.has(id)) return `#/rack/${id}`;
    for (const kind of ["cdus", "loops", "units"]) if (state.index[kind].has(id)) return "#/cooling";
    if (state.index.storage.has(id)) return `#/node/${state.sheet.nodes.id[state.sheet.storage.node[state.index.storage.get(id)]]}`;
    if (state.index.jobs.has(id)) return "#/jobs";
  }
  if (/secured/.test(alarm.text)) return "#/losses";
  if (/racks|agents/.test(alarm.text)) return "#/floor";
  if (/mode is/.test(alarm.text)) return "#/acts";
  return "#/overview";
}

export function line(alarm) {
  const kind = aside(alarm) ? "dim" : rank(alarm) <= 1 ? "bad" : rank(alarm) <= 3 ? "warn" : "dim";
  const since = alarm.since_ms ? `${stamp(alarm.since_ms)}, ${span((state.head.wall_ms - alarm.since_ms) / 1000)}` : "";
  const more = [words(alarm.state), alarm.first_out ? "first out" : "", since, alarm.acked_by ? `acknowledged by ${alarm.acked_by}` : "",
    alarm.shelved_until_ms ? `shelved until ${stamp(alarm.shelved_until_ms)}` : ""].filter(Boolean).join(" · ");
  return el("div", { class: "alarm", "data-alarm": alarm.id }, el("span", { class: `mark ${kind}` }, MARK[rank(alarm)] ?? `○ ${alarm.priority}`),
    el("span", {}, el("a", { href: cause(alarm) }, alarm.text), el("div", { class: "dim" }, more)));
}

export function open(page) {
  const box = el("div"), acts = new Table(["when", "who", "what", "why"]), search = el("input", { type: "search", placeholder: "filter", "aria-label": "filter" });
  let shown = "";
  page.append(el("h1", {}, "Alarms and events"), el("div", { class: "grid" },
    panel(el("span", { class: "buttons" }, "Standing alarms ", search), "w12", box), panel("Last acts", "w12", acts.node)));
  search.addEventListener("input", () => ((shown = ""), draw(state.head)));
  const refresh = () => get("/v1/acts").then((told) => acts.draw(told.acts.slice(0, 30).map((a) => [stamp(a.at_ms), a.by, said(a), a.why]), "nobody has acted yet"));
  refresh();
  function draw(head) {
    const list = listed(head).filter((a) => a.text.toLowerCase().includes(search.value.toLowerCase()));
    const mark = JSON.stringify(list.map((a) => [a.id, a.text, a.state, a.acked_by, a.shelved_until_ms]));
    if (mark === shown) return; // buttons under a finger stay where they are
    shown = mark;
    box.replaceChildren(...(list.length ? list.map(withButtons) : [el("p", { class: "dim" }, "none")]));
  }
  function withButtons(alarm) {
    const node = line(alarm), about = { alarm: String(alarm.id).slice(0, 200) };
    if (!state.head.alarm_list) return node;
    const shelve = (hours) => confirmAct(`Shelve for ${hours} h`, { act: "shelve", ...about, for_s: hours * 3600 }).then(refresh);
    node.append(el("span", { class: "buttons" },
      alarm.acked_by ? null : button("Acknowledge", "operator", async () => {
        await send("/v1/acts", { act: "ack", ...about, why: "seen" }).then(() => toast("acknowledged"), (e) => toast(e.message, true));
        refresh();
      }),
      alarm.shelved_until_ms ? button("Unshelve", "operator", () => confirmAct("Unshelve", { act: "unshelve", ...about }).then(refresh))
        : button("Shelve 1 h", "operator", () => shelve(1))));
    return node;
  }
  return { draw };
}

// An act in words.
export function said(a) {
  const about = a.rack ?? a.job ?? a.node ?? a.alarm ?? a.plan ?? "", name = { park: "maintenance of", unpark: "maintenance over:", ack: "acknowledged", out_of_service: "out of service:", in_service: "in service:" }[a.act] ?? a.act;
  const what = { envelope: () => (a.mw === null ? "envelope released" : `envelope ${a.mw} MW${a.within_s ? ` within ${a.within_s} s` : ""}`),
    curtail: () => `curtailment to ${a.mw} MW, ${stamp(a.from_ms)} to ${stamp(a.until_ms)}`, mode: () => `mode ${a.mode}`,
    priority: () => `priority of ${a.job}: ${a.priority ?? "as in the site file"}` }[a.act];
  return (what ? what() : `${name} ${about}`) + (a.undoes ? " (taken back)" : "");
}

// Jobs: what they ask, what they have, what the caps take from them and why.
import { FLAG, get, num, power, state, val, why, words } from "./core.js";
import { button, confirmAct, el, panel, Table } from "./dom.js";

export function open(page) {
  const { jobs, racks } = state.sheet;
  const of = new Map();
  racks.job.forEach((j, r) => of.set(j, [...(of.get(j) ?? []), r]));
  const table = new Table(["job", "~kind", "~tenant", "#class", "#racks", "#draws", "#wants", "#level", "#lost", "because", ""]);
  const told = new Table(["job", "#racks", "#priority", "gang", "tenant", "flexible", "from"]);
  let priority = {};
  const buttons = new Map([...of.keys()].filter((j) => j >= 0).map((j) => [j, el("span", { class: "buttons" },
    button("Hold", "operator", () => confirmAct(`Hold job ${jobs.id[j]}`, { act: "hold", job: jobs.id[j] })),
    button("Release", "operator", () => confirmAct(`Release job ${jobs.id[j]}`, { act: "release", job: jobs.id[j] })),
    button("Priority", "engineer", () => change(jobs.id[j])))]));
  const refresh = () => get("/v1/acts").then((t) => (priority = t.priority));
  refresh();
  get("/v1/jobs").then((t) => told.draw(t.jobs.map((j) => [j.id, j.racks.length, j.priority, j.gang ? "yes" : "no", j.tenant, j.flexible ? "yes" : "no", j.source]), "no scheduler has told of any"));
  page.append(el("h1", {}, "Jobs"), panel("Jobs of the site, those that lose most first", "w12", table.node), el("br"), panel("Told by schedulers (/v1/jobs)", "w12", told.node));
  function change(job) {
    const level = prompt(`Priority of ${job}: 0 is served first, 9 last; empty for the site file's`, priority[job] ?? "");
    if (level === null) return;
    const n = level.trim() === "" ? null : Number(level);
    confirmAct(`Priority of ${job}: ${n ?? "as in the site file"}`, { act: "priority", job, priority: n }).then(refresh);
  }
  return { draw() {
    const rows = [...of].map(([j, members]) => {
      let draws = 0, wants = 0, lost = 0, level = Infinity, held = 0, worst = members[0];
      for (const r of members) {
        const l = val("rack_shed", r) ? 0 : val("rack_level", r);
        draws += val("rack_w", r) || 0;
        wants += val("rack_wants_w", r) || 0;
        lost += 1 - Math.min(l, 1);
        held += val("rack_flags", r) & FLAG.held ? 1 : 0;
        if (l < level) [level, worst] = [l, r];
      }
      const capped = members.find((r) => val("rack_flags", r) & FLAG.capped), at = capped === undefined ? { text: "" } : why(capped);
      const name = jobs.id[j] ?? "(none)", shed = members.filter((r) => val("rack_shed", r)).length;
      return [lost, [name, words(jobs.kind[j] ?? ""), jobs.tenant[j] ?? "", priority[name] ?? racks.priority[worst], members.length, power(draws), power(wants), num(level, 2),
        num(lost, 1), shed ? { text: `✕ ${shed} racks shed`, kind: "bad" } : { ...at, text: `${at.text}${held ? ` · ${held} held` : ""}` }, buttons.get(j) ?? ""]];
    });
    table.draw(rows.sort((a, b) => b[0] - a[0]).map(([, cells]) => cells));
  } };
}

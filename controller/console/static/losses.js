// Every single loss: its worst survivor, the margin, secured or not, and what would help.
import { get, known, share, span, state, words } from "./core.js";
import { el, panel, set, Table } from "./dom.js";

const AGAIN_MS = 10_000;

export function open(page) {
  const table = new Table(["lost", "kind", "secured", "worst survivor", "#margin", "#to a limit", "~why, and what would help"], (r) => r[0].href && (location.hash = r[0].href));
  const kinds = new Table(["kind", "#losses", "#not secured"]), head = el("p", {}), all = el("input", { type: "checkbox", id: "all" });
  page.append(el("h1", {}, "Contingencies"), head, el("div", { class: "grid" }, panel("By kind", "w3", kinds.node),
    panel(el("span", { class: "buttons" }, "Losses, those that are not secured first ", el("label", { class: "inline" }, all, "all")), "w9", table.node)));
  let asked = -Infinity;
  all.addEventListener("change", ask);
  async function ask() {
    asked = performance.now();
    try {
      const told = await get(`/v1/contingencies${all.checked ? "?all=true" : ""}`);
      const bad = told.not_secured.length;
      set(head, `${told.count} single losses, ${bad} not secured; ${told.age_s.toFixed(0)} s old${told.lost.length ? `; LOST NOW: ${told.lost.join(", ")}` : ""}`, bad || told.lost.length ? "warn" : "");
      kinds.draw(Object.entries(told.kinds).map(([kind, k]) => [words(kind), k.count, { text: k.not_secured || "–", kind: k.not_secured ? "warn" : "" }]));
      table.draw(told.losses.slice(0, 400).map((v) => [
        { text: v.id, href: state.index.nodes.has(v.id) ? `#/node/${v.id}` : "" }, words(v.kind), v.secured ? "secured" : { text: "▲ not secured", kind: "warn" },
        v.survivor || "–", known(v.margin) ? share(v.margin, 1) : "–", v.limit_s === null ? "never" : span(v.limit_s), [v.reason, v.would_help].filter(Boolean).join(" · ") || `${v.takes_words}`]));
    } catch (error) {
      set(head, error.message);
    }
  }
  ask();
  return { draw() { if (performance.now() - asked > AGAIN_MS) ask(); } };
}


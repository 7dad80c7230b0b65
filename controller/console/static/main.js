// The frame around the pages: which page is shown, the header, and the picture of each second handed on.
import * as acts from "./acts.js";
import * as alarms from "./alarms.js";
import { connect, get, news, state, time } from "./core.js";
import * as cooling from "./cooling.js";
import { el, set, toast, tone } from "./dom.js";
import * as floor from "./floor.js";
import * as history from "./history.js";
import * as jobs from "./jobs.js";
import * as losses from "./losses.js";
import * as me from "./me.js";
import * as overview from "./overview.js";
import * as power from "./power.js";
import * as rack from "./rack.js";
import * as scenarios from "./scenarios.js";

const PAGES = [
  ["overview", "Overview", overview], ["power", "Electrical", power], ["floor", "Floor map", floor],
  ["cooling", "Cooling", cooling], ["jobs", "Jobs", jobs], ["losses", "Contingencies", losses],
  ["alarms", "Alarms", alarms], ["history", "History", history], ["acts", "Acts", acts],
  ["scenarios", "Scenarios", scenarios], ["me", "Account", me],
];
const OTHERS = { rack: ["floor", rack], node: ["power", power] };
const page = document.getElementById("page"), nav = document.getElementById("nav"), by = (id) => document.getElementById(id);
let shown = null;

function route() {
  if (!state.sheet) return;
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/");
  const id = decodeURIComponent(rest.join("/"));
  const entry = PAGES.find(([key]) => key === name);
  const [under, module] = OTHERS[name] ?? [entry?.[0] ?? "overview", entry?.[2] ?? overview];
  shown?.leave?.();
  for (const link of nav.children) link.toggleAttribute("aria-current", link.dataset.page === under);
  page.replaceChildren();
  nav.classList.remove("open");
  by("menu").setAttribute("aria-expanded", "false");
  try {
    shown = module.open(page, id) ?? {};
  } catch (error) {
    page.replaceChildren(el("p", { class: "bad" }, `This page cannot be shown: ${error.message}`));
    shown = {};
    throw error;
  }
  document.title = `${page.querySelector("h1")?.textContent ?? "Headroom"} · ${state.sheet.site}`;
  scrollTo(0, 0);
  draw();
}

function draw() {
  if (state.head) shown?.draw?.(state.head);
}

function header() {
  const { head, live, connected } = state, link = by("link");
  document.body.classList.toggle("stale", !live);
  const age = head ? Math.round((performance.now() - state.at) / 1000) : null;
  set(link, live ? "live" : `${connected ? "no new picture" : "no controller"}${age === null ? "" : `: shown is ${age} s old`}`, live ? "" : "bad");
  if (!head) return;
  set(by("mode"), head.mode.toUpperCase(), head.mode === "live" ? "" : "warn");
  const list = alarms.listed(head), first = list.filter(alarms.standing);
  set(by("alarmcount"), first.length ? `▲ ${first.length} alarm${first.length > 1 ? "s" : ""}` : "no alarms");
  tone(by("alarmcount"), first.some((a) => alarms.rank(a) <= 1) ? "bad" : first.length ? "warn" : "");
  set(by("clock"), time(head.wall_ms));
}

function find(event) {
  event.preventDefault();
  const id = by("findid").value.trim();
  if (state.index.racks?.has(id)) location.hash = `#/rack/${id}`;
  else if (state.index.nodes?.has(id)) location.hash = `#/node/${id}`;
  else return toast(`there is no rack or node ${id}`, true);
  by("findid").value = "";
}

async function begin() {
  for (const [key, title] of PAGES) nav.append(el("a", { href: `#/${key}`, "data-page": key }, title));
  by("menu").addEventListener("click", () => by("menu").setAttribute("aria-expanded", String(nav.classList.toggle("open"))));
  by("find").addEventListener("submit", find);
  state.me = await get("/v1/me");
  set(by("who"), `${state.me.user} · ${state.me.role}`);
  by("sim").hidden = !state.me.plant;
  addEventListener("hashchange", route);
  addEventListener("resize", draw);
  news.addEventListener("sheet", () => { set(by("site"), state.sheet.site); route(); });
  news.addEventListener("picture", () => { header(); if (!document.hidden) draw(); });
  news.addEventListener("link", header);
  document.addEventListener("visibilitychange", draw);
  connect();
}
begin();

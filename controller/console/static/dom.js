// Elements, meters, tables, and the dialog that every act goes through.
import { known, Refused, send, state } from "./core.js";

const SVG = "http://www.w3.org/2000/svg";
export function el(tag, attrs = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...inside.flat().filter((x) => x !== null && x !== undefined));
  return node;
}
export const panel = (title, width, ...inside) => el("section", { class: `panel ${width}` }, el("h2", {}, title), ...inside);
export function set(node, text, kind) {
  if (node.textContent !== text) node.textContent = text;
  if (kind !== undefined) tone(node, kind);
}
export function tone(node, kind) {
  node.classList.toggle("warn", kind === "warn");
  node.classList.toggle("bad", kind === "bad");
}
export const toneOf = (load, limit) => (load > limit * 1.005 ? "bad" : load > limit * 0.97 ? "warn" : "");

// A bar from 0 to `full`, a tick at the limit, a dashed one at what is planned.
export class Meter {
  constructor(label) {
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", "0 0 200 10");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.label = label;
    this.parts = ["rect", "rect", "line", "line"].map((tag) => this.svg.appendChild(document.createElementNS(SVG, tag)));
    ["rail", "fill", "tick", "plan"].forEach((name, i) => this.parts[i].setAttribute("class", name));
    this.parts[0].setAttribute("width", 200);
    for (const rect of this.parts.slice(0, 2)) rect.setAttribute("height", 10);
    for (const line of this.parts.slice(2)) line.setAttribute("y2", 10);
    this.svg.setAttribute("class", "meter");
  }
  draw(load, limit, full = limit * 1.05, plan = NaN) {
    const at = (x) => (known(x) ? Math.max(0, Math.min(199, (200 * x) / full)) : -9);
    this.parts[1].setAttribute("width", Math.max(0, at(load)));
    [[2, limit], [3, plan]].forEach(([i, x]) => ["x1", "x2"].forEach((end) => this.parts[i].setAttribute(end, at(x))));
    this.svg.setAttribute("class", `meter ${toneOf(load, limit)}`);
    this.svg.setAttribute("aria-label", `${this.label}: ${known(load) ? ((100 * load) / limit).toFixed(1) + " % of its limit" : "unknown"}`);
  }
}

// A table whose cells are written over: rows of [text or {text, href, kind}]; `columns` are names, "#name" is a number.
export class Table {
  constructor(columns, go) {
    this.columns = columns.map((c) => [c.replace(/^[#~]+/, ""), c.includes("#") ? "num" : "", c.startsWith("~") ? "wide" : ""]);
    this.go = go;
    this.body = el("tbody");
    const heads = this.columns.map(([name, kind, wide]) => el("th", { class: `${kind} ${wide}`, scope: "col" }, name));
    this.node = el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), this.body));
    this.shown = [];
  }
  draw(rows, nothing = "nothing") {
    while (this.body.rows.length > Math.max(rows.length, 1)) this.body.deleteRow(-1);
    if (!rows.length) {
      this.body.replaceChildren(el("tr", {}, el("td", { colspan: this.columns.length, class: "dim" }, nothing)));
      this.shown = [];
      return;
    }
    if (!this.shown.length) this.body.replaceChildren();
    this.shown = rows;
    rows.forEach((cells, i) => this.line(this.body.rows[i] ?? this.add(i), cells));
  }
  add(i) {
    const line = this.body.insertRow();
    this.columns.forEach(([, kind, wide]) => (line.insertCell().className = `${kind} ${wide}`));
    if (this.go) {
      line.tabIndex = 0;
      line.addEventListener("click", (event) => event.target.closest("button, a") || this.go(this.shown[i], i));
      line.addEventListener("keydown", (event) => event.key === "Enter" && event.target === line && this.go(this.shown[i], i));
    }
    return line;
  }
  line(line, cells) {
    cells.forEach((cell, k) => {
      const at = line.cells[k];
      if (cell instanceof Node) return at.firstChild === cell || at.replaceChildren(cell);
      const { text = cell, href = "", kind = "" } = typeof cell === "object" && cell ? cell : {};
      tone(at, kind);
      if (!href) return set(at, String(text));
      const link = at.firstElementChild?.tagName === "A" ? at.firstElementChild : at.appendChild(el("a"));
      if (at.childNodes.length !== 1) at.replaceChildren(link);
      link.setAttribute("href", href);
      set(link, String(text));
    });
  }
}

let fading;
export function toast(text, bad = false) {
  const node = document.getElementById("toast");
  node.textContent = text;
  node.className = `on${bad ? " bad" : ""}`;
  clearTimeout(fading);
  fading = setTimeout(() => (node.className = ""), bad ? 9000 : 5000);
}

const RANK = { viewer: 1, operator: 2, engineer: 3 };
export const may = (role) => RANK[state.me?.role] >= RANK[role];
export function button(text, role, onclick, attrs = {}) {
  const lacks = !may(role);
  return el("button", { type: "button", onclick, disabled: lacks, title: lacks ? `needs the role ${role}` : null, ...attrs }, text);
}

// Shows what the act would do, asks why, does it. Resolves true when it was done.
export async function confirmAct(title, act, go = () => send("/v1/acts", { ...act, why: reason() }), foretell = true) {
  const dialog = document.getElementById("ask");
  const effect = el("div", { class: "effect", role: "status" }, foretell ? "working out what that would do .." : "");
  const why = el("textarea", { id: "why", maxlength: 200, required: true, "aria-label": "why" });
  const said = el("p", { class: "bad", role: "alert" });
  const yes = el("button", { class: "go", type: "submit", disabled: true }, "Do it");
  const no = el("button", { type: "button", onclick: () => dialog.close("no") }, "Leave it");
  const form = el("form", { class: "rows" }, el("h2", {}, title), effect,
    el("label", {}, "Why (kept with the act)", why), said, el("div", { class: "buttons" }, yes, no));
  reason = () => why.value.trim();
  why.addEventListener("input", () => (yes.disabled = reason().length < 3));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    yes.disabled = true;
    try {
      const done = await go();
      toast(done.warning ? `done; ${done.warning}` : "done: the next cycle takes it up");
      dialog.close("yes");
    } catch (error) {
      said.textContent = error instanceof Refused ? error.message : "the console does not answer";
      yes.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  why.focus();
  if (foretell) {
    try {
      effect.textContent = (await send("/v1/acts/effect", act)).lines.join("\n");
    } catch (error) {
      effect.textContent = `The effect cannot be told: ${error.message}`;
    }
  }
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
let reason = () => "";


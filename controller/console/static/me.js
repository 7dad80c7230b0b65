// Who is signed in: password, tokens, users, signing out.
import { get, send, state } from "./core.js";
import { button, el, may, panel, Table, toast } from "./dom.js";

const told = (form) => Object.fromEntries(new FormData(form));
const secret = (name, auto) => el("input", { name, type: "password", autocomplete: auto, required: true, minlength: 1 });

function form(action, text, ...fields) {
  const node = el("form", { class: "rows" }, fields, el("div", { class: "buttons" }, el("button", { type: "submit" }, text)));
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    action(told(node)).then(() => node.reset(), (error) => toast(error.message, true));
  });
  return node;
}

export function open(page) {
  const users = new Table(["user", "role", ""]), token = el("code");
  const refresh = () => may("engineer") && get("/v1/users").then((list) => users.draw(Object.entries(list.users).map(([name, role]) => [name, role,
    name === state.me.user ? "" : button("Remove", "engineer", () => confirm(`Take ${name} out?`) && send(`/v1/users/${name}`, undefined, "DELETE").then(refresh, (e) => toast(e.message, true)))])));
  const role = (most) => el("select", { name: "role", "aria-label": "role" }, ["viewer", "operator", "engineer"].filter((r) => r === "viewer" || may(most ?? r)).map((r) => el("option", { value: r }, r)));
  page.append(el("h1", {}, `${state.me.user}, ${state.me.role}`), el("p", {}, el("button", { type: "button", onclick: () => send("/v1/logout").then(() => location.replace("/login")) }, "Sign out")),
    el("div", { class: "grid" },
      panel("Change your password", "w4", form(async (t) => { await send("/v1/me/password", t); location.replace("/login"); }, "Change it",
        el("label", {}, "Old", secret("old", "current-password")), el("label", {}, "New, at least 12 characters", secret("new", "new-password")))),
      panel("A token for a program", "w4", form(async (t) => { token.textContent = (await send("/v1/tokens", t)).token; }, "Make one", el("label", {}, "It may act as", role())), token, el("p", { class: "dim" }, "It is shown only now. The API: ", el("a", { href: "/v1/openapi.json" }, "/v1/openapi.json"))),
      may("engineer") ? panel("Users", "w4", users.node, form(async (t) => { await send("/v1/users", t); refresh(); }, "Add",
        el("label", {}, "Name", el("input", { name: "user", required: true, pattern: "[a-z][a-z0-9._\\-]*", autocomplete: "off" })), el("label", {}, "Role", role()), el("label", {}, "Password", secret("password", "new-password")))) : ""));
  refresh();
  return {};
}

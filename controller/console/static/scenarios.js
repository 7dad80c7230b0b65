// Faults for a simulated plant, where one is connected.
import { get, send } from "./core.js";
import { button, confirmAct, el, panel, Table } from "./dom.js";

export function open(page) {
  const table = new Table(["scenario", "what befalls the plant", ""]), note = el("p");
  page.append(el("h1", {}, "Scenarios"), note, panel("Start one now", "w12", table.node));
  const start = (name) => confirmAct(`Start ${name} in the SIMULATED plant`, {}, () => send("/v1/scenarios", { scenario: name, why: document.getElementById("why").value.trim() }), false);
  get("/v1/scenarios").then((told) => {
    note.className = told.plant ? "badge sim" : "dim";
    note.textContent = told.plant ? "SIMULATED PLANT: nothing here touches a building. What befalls the plant in a scenario begins 3 s after it is started."
      : "No simulated plant is connected: this console watches a building, and nothing can be started.";
    table.draw(told.scenarios.map((s) => [s.name, s.title, button("Start ..", "engineer", () => start(s.name))]), "none");
  }, (error) => (note.textContent = error.message));
  return {};
}


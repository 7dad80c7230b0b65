// Signs in and goes to the console.
const form = document.getElementById("in");
const said = document.getElementById("said");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "";
  const body = JSON.stringify(Object.fromEntries(new FormData(form)));
  try {
    const reply = await fetch("/v1/login", {
      method: "POST", body, headers: { "Content-Type": "application/json" }, credentials: "same-origin",
    });
    if (reply.ok) {
      location.replace("/" + location.hash);
      return;
    }
    const told = await reply.json();
    said.textContent = typeof told.detail === "string" ? told.detail : "give user and password";
  } catch {
    said.textContent = "the console does not answer";
  }
});

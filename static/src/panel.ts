/** The panel of jobs: its content is there, and kept up to date, only while it is open. */
import htmx from "htmx.org";

const panel = document.getElementById("jobs");
const body = document.getElementById("jobs-body");

panel?.addEventListener("toggle", (event) => {
  if (!body) return;
  if ((event as ToggleEvent).newState === "open") {
    void htmx.ajax("get", panel.dataset.source ?? "", { target: body, swap: "innerHTML" });
  } else body.replaceChildren();
});

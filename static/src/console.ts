/** Opens every console of the page, and closes those that leave it. */
import "./console.css";
import { Console } from "./console/console";

const consoles = new Map<HTMLElement, Console>();

function follow(): void {
  for (const [root, open] of consoles) {
    if (root.isConnected) continue;
    open.close();
    consoles.delete(root);
  }
  for (const root of document.querySelectorAll<HTMLElement>("[data-console]")) {
    if (!consoles.has(root)) consoles.set(root, new Console(root));
  }
}

new MutationObserver(follow).observe(document.body, { childList: true, subtree: true });
follow();

// An open socket would keep the page out of the browser's back/forward cache, and the console busy.
window.addEventListener("pagehide", () => {
  for (const open of consoles.values()) open.close();
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) for (const open of consoles.values()) open.connect();
});

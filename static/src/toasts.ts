/** Toasts go away by themselves where they say so, but not while somebody looks at them. */
import { isSignedOut } from "./session";

const toasts = document.getElementById("toasts");
const timers = new WeakMap<Element, number>();

function watch(toast: HTMLElement): void {
  const wait = Number(toast.dataset.dismissAfter);
  if (!wait || timers.has(toast)) return;
  const tick = () => {
    if (toast.matches(":hover, :focus-within")) timers.set(toast, window.setTimeout(tick, 1000));
    else toast.remove();
  };
  timers.set(toast, window.setTimeout(tick, wait));
}

function watchAll(): void {
  for (const toast of toasts?.querySelectorAll<HTMLElement>("[data-dismiss-after]") ?? []) {
    watch(toast);
  }
}

/** Says what the site could not; the sentences are on `#toasts`, translated by the server. */
function complain(sentence: string | undefined): void {
  const template = document.querySelector<HTMLTemplateElement>("#toast-template");
  const toast = template?.content.firstElementChild?.cloneNode(true) as HTMLElement | undefined;
  if (!toast || !sentence) return;
  const text = toast.querySelector("[data-text]");
  if (text) text.textContent = sentence;
  toasts?.append(toast);
}

if (toasts) {
  new MutationObserver(watchAll).observe(toasts, {
    childList: true,
    subtree: true,
    attributeFilter: ["data-dismiss-after"],
  });
  watchAll();
  toasts.addEventListener("click", (event) => {
    const target = event.target as Element;
    if (target.closest("[data-dismiss]")) target.closest("[data-toast]")?.remove();
  });
  document.addEventListener("htmx:before:response", (event) => {
    if (isSignedOut(event.detail.ctx.response?.raw)) event.preventDefault();
  });
  document.addEventListener("htmx:response:error", (event) => {
    if (event.detail.ctx.text?.includes("data-toast")) return; // the answer says it itself
    const status = event.detail.ctx.response?.status ?? 0;
    if (status === 403) complain(toasts.dataset.forbidden);
    else if (status === 404) complain(toasts.dataset.missing);
    else if (status >= 500) complain(toasts.dataset.broken);
  });
  document.addEventListener("htmx:error", () => complain(toasts.dataset.unreachable));
}

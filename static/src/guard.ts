/**
 * `<form data-guard>` within a live region: what a person has begun to type is not overwritten by
 * what the server says meanwhile. It is left alone until it was sent or given up.
 */
import htmx from "htmx.org";

// What was just sent is in the page's data a moment later.
const SETTLED_AFTER_MS = 600;

function guarded(target: EventTarget | null): HTMLFormElement | null {
  return target instanceof Element ? target.closest<HTMLFormElement>("form[data-guard]") : null;
}

function release(form: HTMLFormElement): void {
  delete form.dataset.typed;
  form.dispatchEvent(new CustomEvent("stale", { bubbles: true }));
}

for (const kind of ["input", "change"]) {
  document.addEventListener(kind, (event) => {
    const form = guarded(event.target);
    if (form) form.dataset.typed = "";
  });
}

document.addEventListener("reset", (event) => {
  const form = guarded(event.target);
  if (form) release(form);
});

document.addEventListener("htmx:after:request", (event) => {
  const form = guarded(event.target);
  const detail = (event as CustomEvent<{ ctx: { response?: { status: number } } }>).detail;
  const status = detail.ctx.response?.status ?? 0;
  if (form && status >= 200 && status < 300) setTimeout(() => release(form), SETTLED_AFTER_MS);
});

htmx.registerExtension("guard", {
  htmx_before_morph_node(element: Element): boolean {
    return !(element instanceof HTMLFormElement && element.dataset.typed !== undefined);
  },
});

/**
 * Menus are popovers. Their open state is no attribute, so it survives a morph; they only need to
 * be put beside their button. `data-menu="URL"` opens the one shared menu with what the URL answers.
 */
import htmx from "htmx.org";
import { isSignedOut } from "./session";

const GAP = 4;
const shared = document.getElementById("menu");
let opener: HTMLElement | undefined;

function place(menu: HTMLElement, button: HTMLElement): void {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const isRoomBelow = at.bottom + GAP + height <= innerHeight || at.top < height;
  const top = isRoomBelow ? at.bottom + GAP : at.top - GAP - height;
  const left = at.left + width <= innerWidth - GAP ? at.left : at.right - width;
  menu.style.top = `${Math.max(GAP, Math.min(top, innerHeight - height - GAP))}px`;
  menu.style.left = `${Math.max(GAP, left)}px`;
  menu.dataset.placed = "";
}

function buttonOf(menu: HTMLElement): HTMLElement | undefined {
  if (menu === shared) return opener;
  return document.querySelector<HTMLElement>(`[popovertarget="${menu.id}"]`) ?? undefined;
}

async function openShared(button: HTMLElement): Promise<void> {
  const url = button.dataset.menu;
  if (!shared || !url) return;
  const response = await fetch(url, { headers: { "HX-Request": "true" } });
  if (isSignedOut(response) || !response.ok) return;
  await htmx.swap({ text: await response.text(), target: shared, swap: "innerHTML" });
  opener = button;
  shared.setAttribute("aria-label", button.getAttribute("aria-label") ?? "");
  shared.showPopover();
  button.setAttribute("aria-expanded", "true");
  place(shared, button);
  items(shared)[0]?.focus();
}

function items(menu: Element): HTMLElement[] {
  return [...menu.querySelectorAll<HTMLElement>("a[href], button")];
}

document.addEventListener(
  "toggle",
  (event) => {
    const menu = event.target;
    if (!(menu instanceof HTMLElement) || !menu.matches(".menu")) return;
    const isOpen = event.newState === "open";
    const button = buttonOf(menu);
    if (isOpen && button) {
      place(menu, button);
      items(menu)[0]?.focus();
    }
    if (!isOpen) delete menu.dataset.placed;
    if (menu === shared && !isOpen) opener?.setAttribute("aria-expanded", "false");
  },
  true,
);

document.addEventListener("click", (event) => {
  const target = event.target as Element;
  const button = target.closest<HTMLElement>("[data-menu]");
  if (button) {
    if (shared?.matches(":popover-open") && opener === button) shared.hidePopover();
    else void openShared(button);
  }
  const item = target.closest(".menu a, .menu button:not([aria-disabled=true], [data-stay])");
  item?.closest<HTMLElement>(".menu")?.hidePopover();
});

document.addEventListener("keydown", (event) => {
  const menu = (event.target as Element).closest?.(".menu:popover-open");
  if (!menu || !["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
  event.preventDefault();
  const all = items(menu);
  const at = all.indexOf(document.activeElement as HTMLElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key] ?? 0;
  all.at(next % all.length)?.focus();
});

window.addEventListener(
  "scroll",
  () => {
    for (const menu of document.querySelectorAll<HTMLElement>(".menu:popover-open")) {
      const button = buttonOf(menu);
      if (button) place(menu, button);
    }
  },
  true,
);

/**
 * The countdown of a change that waits to be kept. `data-countdown="27"` says how many seconds were
 * left when the server wrote it; the host keeps the time, this only shows it.
 */

const TICK_MS = 250;

interface Counting {
  told: string;
  ends: number;
}

const countings = new WeakMap<HTMLElement, Counting>();

function countingOf(element: HTMLElement): Counting {
  const told = element.dataset.countdown ?? "0";
  let counting = countings.get(element);
  if (!counting || counting.told !== told) {
    counting = { told, ends: Date.now() + Number(told) * 1000 };
    countings.set(element, counting);
  }
  return counting;
}

function show(element: HTMLElement): void {
  const left = Math.ceil((countingOf(element).ends - Date.now()) / 1000);
  const seconds = element.querySelector<HTMLElement>("[data-seconds]");
  if (left <= 0) element.textContent = element.dataset.over ?? "";
  else if (seconds && seconds.textContent !== String(left)) seconds.textContent = String(left);
}

window.setInterval(() => {
  for (const element of document.querySelectorAll<HTMLElement>("[data-countdown]")) show(element);
}, TICK_MS);

/**
 * Live regions. `<div id data-live="machine:UUID jobs" data-url="...">` is fetched again and morphed
 * when one of its topics is announced on the websocket: at once, then at most every 300 ms.
 *
 * A topic is asked for after the page was rendered, so what changed in between would be missed:
 * whenever a topic is new (at first, for a new region, after a reconnect) the regions that carry it
 * are fetched once, as soon as the server has said that it listens.
 */
import htmx from "htmx.org";
import { isSignedOut } from "./session";

const THROTTLE_MS = 300;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 10_000;
const SIGNED_OUT = 4001;

interface Fetching {
  isBusy: boolean;
  isStale: boolean;
  lastStart: number;
  timer: number | undefined;
  text: string;
}

const fetchings = new WeakMap<Element, Fetching>();
let socket: WebSocket | undefined;
let asked = new Set<string>();
let unheard = new Set<string>(); // asked for, and not known to be listened to
let retryMs = FIRST_RETRY_MS;
let retryTimer: number | undefined;
let isCheckDue = false;

function regions(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>("[data-live][data-url]")];
}

function topicsOf(region: HTMLElement): string[] {
  return (region.dataset.live ?? "").split(/\s+/).filter(Boolean);
}

function fetchingOf(region: HTMLElement): Fetching {
  let fetching = fetchings.get(region);
  if (!fetching) {
    fetching = { isBusy: false, isStale: false, lastStart: -Infinity, timer: undefined, text: "" };
    fetchings.set(region, fetching);
  }
  return fetching;
}

function refresh(region: HTMLElement): void {
  const fetching = fetchingOf(region);
  if (fetching.isBusy || document.hidden) {
    fetching.isStale = true;
    return;
  }
  if (fetching.timer !== undefined) return;
  const wait = fetching.lastStart + THROTTLE_MS - performance.now();
  if (wait > 0) {
    fetching.timer = window.setTimeout(() => {
      fetching.timer = undefined;
      refresh(region);
    }, wait);
    return;
  }
  void fetchAndMorph(region, fetching);
}

async function fetchAndMorph(region: HTMLElement, fetching: Fetching): Promise<void> {
  const url = region.dataset.url;
  if (!region.isConnected || !url) return;
  Object.assign(fetching, { isBusy: true, isStale: false, lastStart: performance.now() });
  try {
    const response = await fetch(url, {
      headers: { "HX-Request": "true", "X-Live": "1" },
      credentials: "same-origin",
    });
    if (isSignedOut(response)) return;
    if (response.status === 404) location.reload();
    if (response.ok) await morph(region, fetching, await response.text());
  } catch {
    // The connection is gone; the socket notices as well and fetches everything when it is back.
  } finally {
    fetching.isBusy = false;
    if (fetching.isStale) refresh(region);
  }
}

async function morph(region: HTMLElement, fetching: Fetching, text: string): Promise<void> {
  if (text === fetching.text || !region.isConnected) return;
  fetching.text = text;
  await htmx.swap({ text, target: region, sourceElement: region, swap: "outerMorph" });
  // What somebody waited for is there: go on to it.
  if (region.dataset.goto) location.assign(region.dataset.goto);
}

function ask(): void {
  isCheckDue = false;
  if (socket?.readyState !== WebSocket.OPEN) return;
  const wanted = new Set(regions().flatMap(topicsOf));
  const isSame = wanted.size === asked.size && [...wanted].every((topic) => asked.has(topic));
  if (isSame) return;
  unheard = new Set([...wanted].filter((topic) => unheard.has(topic) || !asked.has(topic)));
  asked = wanted;
  socket.send(JSON.stringify({ subscribe: [...wanted] }));
}

function refreshAll(topics: Set<string>): void {
  for (const region of regions()) {
    if (topicsOf(region).some((topic) => topics.has(topic))) refresh(region);
  }
}

function heard(message: MessageEvent<string>): void {
  const { changed } = JSON.parse(message.data) as { changed?: string; subscribed?: number };
  const topics = changed ? new Set([changed]) : unheard;
  if (!changed) unheard = new Set();
  refreshAll(topics);
}

function show(state: "live" | "connecting"): void {
  const indicator = document.getElementById("live");
  if (!indicator || indicator.dataset.state === state) return;
  indicator.dataset.state = state;
  const text = state === "live" ? indicator.dataset.liveText : indicator.dataset.connectingText;
  const label = indicator.querySelector("span");
  if (label) label.textContent = text ?? "";
}

function connect(): void {
  window.clearTimeout(retryTimer);
  if (socket && socket.readyState <= WebSocket.OPEN) return;
  const url = new URL("/live", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const opening = new WebSocket(url);
  socket = opening;
  opening.addEventListener("message", heard);
  opening.addEventListener("open", () => {
    retryMs = FIRST_RETRY_MS;
    asked = new Set();
    unheard = new Set();
    show("live");
    ask();
  });
  opening.addEventListener("close", (event) => {
    if (socket !== opening) return;
    if (event.code === SIGNED_OUT) return location.reload();
    show("connecting");
    // Spread out, so that a thousand browsers do not come back in the same millisecond.
    retryTimer = window.setTimeout(connect, retryMs * (0.5 + Math.random()));
    retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
  });
}

function checkSoon(): void {
  if (isCheckDue) return;
  isCheckDue = true;
  queueMicrotask(ask);
}

/** What the person opened stays open, and where it is: the server does not know of it. */
htmx.registerExtension("keep-open", {
  htmx_before_morph_attr(element: Element, detail: { attrName: string }): boolean {
    const name = detail.attrName;
    if (element.matches(".menu")) return !["style", "data-placed"].includes(name);
    if (name === "open") return !(element instanceof HTMLDetailsElement);
    return !(name === "aria-expanded" && element.hasAttribute("data-menu"));
  },
});

document.addEventListener("stale", (event) => {
  const region = (event.target as Element).closest<HTMLElement>("[data-live][data-url]");
  if (!region) return;
  fetchingOf(region).text = ""; // the last morph left something out
  refresh(region);
});

if (document.querySelector("[data-live]")) {
  new MutationObserver(checkSoon).observe(document.body, {
    subtree: true,
    childList: true,
    attributeFilter: ["data-live", "data-url"],
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    connect();
    for (const region of regions()) if (fetchingOf(region).isStale) refresh(region);
  });
  window.addEventListener("online", connect);
  // An open socket would keep the page out of the browser's back/forward cache.
  window.addEventListener("pagehide", () => socket?.close());
  window.addEventListener("pageshow", (event) => event.persisted && connect());
  connect();
}

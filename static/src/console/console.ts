/** One console: it gets a ticket, connects, says how it stands, and comes back by itself. */
import type RFB from "@novnc/novnc";
import * as connection from "./connection";
import { Input } from "./input";
import { part, type Say, sentencesOf } from "./parts";
import { askForTicket, isTicket, openSocket, type Refusal } from "./ticket";
import { Toolbar } from "./toolbar";

/**
 * `off`: there is nothing to see until the machine starts. `waiting`: it is tried again by itself.
 * `ended`: only the person can say whether to go on.
 */
type Phase = "connecting" | "connected" | "waiting" | "ended" | "off";

const RETRIES_MS = [300, 700, 1500, 3000, 6000, 10_000];

const FINAL_SENTENCES: Record<number, string> = {
  [connection.WITHDRAWN]: "withdrawn",
  [connection.IDLE]: "idle",
  [connection.TOO_LONG]: "too-long",
};

export class Console {
  readonly #root: HTMLElement;
  readonly #say: Say;
  readonly #input: Input;
  readonly #toolbar: Toolbar;
  readonly #machineObserver: MutationObserver;
  #rfb: RFB | undefined;
  #phase: Phase = "connecting";
  #attempts = 0;
  #retryTimer: number | undefined;
  /** Counts connections, so that what an earlier one still has to say is not taken for news. */
  #generation = 0;
  #isActive: boolean;

  constructor(root: HTMLElement) {
    this.#root = root;
    this.#say = sentencesOf(root);
    this.#input = new Input(root, this.#say);
    this.#toolbar = new Toolbar(root, this.#input, this.#say);
    this.#isActive = this.#readActive();
    this.#machineObserver = new MutationObserver(() => this.#followMachine());
    this.#machineObserver.observe(part(root, "machine"), {
      subtree: true,
      childList: true,
      attributes: true,
    });
    part(root, "reconnect").addEventListener("click", () => this.#again());
    part(root, "password").addEventListener("submit", (event) => this.#sendPassword(event));
    window.addEventListener("online", this.#online);
    if (this.#isActive) this.connect();
    else this.#show("off", "off");
  }

  connect(): void {
    this.#hangUp();
    this.#show("connecting", "connecting");
    void this.#open(this.#generation);
  }

  close(): void {
    this.#hangUp();
    if (this.#root.isConnected) return;
    this.#machineObserver.disconnect();
    window.removeEventListener("online", this.#online);
  }

  readonly #online = (): void => {
    if (this.#phase === "waiting") this.#again();
  };

  #again(): void {
    this.#attempts = 0;
    this.connect();
  }

  #hangUp(): void {
    window.clearTimeout(this.#retryTimer);
    this.#generation++;
    this.#input.detach();
    this.#rfb?.disconnect();
    this.#rfb = undefined;
  }

  async #open(generation: number): Promise<void> {
    const { ticketUrl = "", level = "", csrf = "" } = this.#root.dataset;
    const answer = await askForTicket(ticketUrl, level, csrf);
    if (generation !== this.#generation) return;
    if (!isTicket(answer)) {
      this.#refused(answer);
      return;
    }
    this.#rfb = connection.connect(part(this.#root, "screen"), openSocket(answer), {
      onOpen: () => generation === this.#generation && this.#opened(),
      onEnd: (end) => generation === this.#generation && this.#ended(end),
      onPasswordWanted: () => generation === this.#generation && this.#show("ended", "password"),
    });
    this.#input.attach(this.#rfb);
  }

  #opened(): void {
    this.#attempts = 0;
    this.#show("connected", this.#root.dataset.level === "view" ? "connected-view" : "connected");
    this.#input.opened();
  }

  #ended({ code, reason }: connection.End): void {
    this.#rfb = undefined;
    this.#hangUp();
    const final = FINAL_SENTENCES[code];
    if (final) this.#disconnected(reason || this.#say(final));
    else if (code === connection.STOPPED) this.#retry(this.#say("stopped"));
    else this.#retry(reason || this.#say("lost"));
  }

  #disconnected(reason: string): void {
    this.#showText("ended", this.#say("disconnected", { reason }));
  }

  #refused({ kind, sentence }: Refusal): void {
    if (kind === "off") this.#refusedAsOff();
    else if (kind === "unreachable") this.#retry(this.#say("unreachable"));
    else if (kind === "busy") this.#retry(sentence);
    else if (kind === "refused") this.#showText("ended", sentence);
    else this.#show("ended", kind);
  }

  #retry(reason: string): void {
    if (!this.#isActive) {
      this.#show("off", "off");
      return;
    }
    this.#showText("waiting", this.#say("retrying", { reason }));
    this.#connectLater();
  }

  /**
   * The server knows of it before this page does. Should the machine start again before the page has
   * heard that it was off, nothing here would change any more: so it asks again.
   */
  #refusedAsOff(): void {
    this.#show("off", "off");
    if (this.#isActive) this.#connectLater();
  }

  #connectLater(): void {
    const wait = RETRIES_MS[Math.min(this.#attempts++, RETRIES_MS.length - 1)] ?? 0;
    this.#retryTimer = window.setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
  }

  #readActive(): boolean {
    return part(this.#root, "machine").querySelector("[data-is-active=true]") !== null;
  }

  /** The mirror's word comes with the live fragment inside the console. */
  #followMachine(): void {
    const isActive = this.#readActive();
    if (isActive === this.#isActive) return;
    this.#isActive = isActive;
    const isIdle = this.#phase === "off" || this.#phase === "waiting";
    if (isActive && isIdle) this.#again();
    // A connected one is closed by the server, which knows best when.
    if (!isActive && this.#phase !== "connected") {
      this.#hangUp();
      this.#show("off", "off");
    }
  }

  #sendPassword(event: Event): void {
    event.preventDefault();
    const field = part<HTMLInputElement>(this.#root, "password-field");
    this.#rfb?.sendCredentials({ password: field.value });
    field.value = "";
    this.#show("connecting", "connecting");
  }

  #show(phase: Phase, sentence: string): void {
    this.#showText(phase, this.#say(sentence));
    part(this.#root, "password").hidden = sentence !== "password";
  }

  #showText(phase: Phase, text: string): void {
    this.#phase = phase;
    this.#root.dataset.phase = phase;
    part(this.#root, "state").textContent = text;
    const isShownBelow = phase !== "off" && phase !== "connected";
    part(this.#root, "message").textContent = isShownBelow ? text : "";
    part(this.#root, "reconnect").hidden = phase !== "waiting" && phase !== "ended";
    part(this.#root, "password").hidden = true;
    this.#toolbar.update(phase === "connected");
  }
}

/** What goes to the guest: whose keys they are, key combinations, typed texts, a phone's keyboard. */
import type RFB from "@novnc/novnc";
import { releaseKeys, watchChord } from "./keyboard";
import { chord, named, type Stroke, send, strokesFor } from "./keys";
import { chosenLayout, layoutNamed } from "./layouts";
import { part, type Say } from "./parts";
import { watchField } from "./softkeys";

export class Input {
  readonly #root: HTMLElement;
  readonly #screen: HTMLElement;
  readonly #field: HTMLTextAreaElement;
  readonly #say: Say;
  #rfb: RFB | undefined;
  #isViewOnly: boolean;
  #isFitted = localStorage.getItem("console-size") !== "native";
  #hadKeys = false;

  constructor(root: HTMLElement, say: Say) {
    this.#root = root;
    this.#say = say;
    this.#screen = part(root, "screen");
    this.#field = part<HTMLTextAreaElement>(root, "field");
    this.#isViewOnly = root.dataset.level !== "control";
    const keys = part(root, "keys");
    watchChord(keys, () => this.leave());
    keys.addEventListener("focusin", () => this.#showKeys(!this.#isViewOnly));
    keys.addEventListener("focusout", () => this.#lostFocus());
    keys.addEventListener("pointerdown", () => this.#touched());
    watchField(this.#field, {
      character: (character) => this.#press(...strokesFor(character, layoutNamed(chosenLayout()))),
      named: (key) => this.#pressNamed(key),
    });
  }

  get rfb(): RFB | undefined {
    return this.#rfb;
  }

  get isViewOnly(): boolean {
    return this.#isViewOnly;
  }

  get isFitted(): boolean {
    return this.#isFitted;
  }

  attach(rfb: RFB): void {
    this.#rfb = rfb;
    this.#apply();
  }

  detach(): void {
    if (this.#root.dataset.keys === "guest") this.#hadKeys = true;
    this.#rfb = undefined;
    this.#showKeys(false);
  }

  opened(): void {
    const canvas = this.#screen.querySelector("canvas");
    canvas?.setAttribute("role", "application");
    canvas?.setAttribute("aria-label", this.#say(this.#isViewOnly ? "screen-view" : "screen"));
    if (this.#hadKeys && document.activeElement === document.body) this.enter();
    this.#hadKeys = false;
  }

  /** The keys go to the guest. */
  enter(): void {
    if (!this.#isViewOnly) this.#rfb?.focus({ preventScroll: true });
  }

  /** The keys come back to the page, at the button they went from. */
  leave(): void {
    this.#rfb?.blur();
    this.#field.blur();
    part(this.#root, "enter").focus({ preventScroll: true });
  }

  setViewOnly(isViewOnly: boolean): void {
    // While the keys still go out: afterwards noVNC would not tell the guest that they are up.
    releaseKeys();
    this.#isViewOnly = isViewOnly;
    this.#rfb?.blur();
    this.#apply();
  }

  setFitted(isFitted: boolean): void {
    this.#isFitted = isFitted;
    localStorage.setItem("console-size", isFitted ? "fit" : "native");
    this.#apply();
  }

  sendChord(codes: string): void {
    this.#press(chord(codes));
  }

  openSoftKeyboard(): void {
    this.#field.focus({ preventScroll: true });
  }

  #press(...strokes: Stroke[]): void {
    if (this.#rfb) for (const stroke of strokes) send(this.#rfb, stroke);
  }

  #pressNamed(name: string): boolean {
    const key = named(name);
    if (key) this.#press({ key, held: [] });
    return key !== null;
  }

  #apply(): void {
    if (!this.#rfb) return;
    const isTouch = matchMedia("(pointer: coarse)").matches;
    this.#rfb.viewOnly = this.#isViewOnly;
    this.#rfb.focusOnClick = !this.#isViewOnly;
    this.#rfb.scaleViewport = this.#isFitted;
    // A finger on the screen is the guest's mouse, so it cannot scroll: it drags the picture instead.
    this.#rfb.clipViewport = this.#rfb.dragViewport = isTouch && !this.#isFitted;
    this.#rfb.background = "transparent";
  }

  /** noVNC takes the click: the button used last would keep the focus, and with it Enter and Space. */
  #touched(): void {
    const { activeElement } = document;
    if (this.#isViewOnly && activeElement instanceof HTMLElement) activeElement.blur();
  }

  #lostFocus(): void {
    // noVNC takes its canvas away, and with it the focus, just before it says that it has ended:
    // then the canvas of the next connection gets the keys back.
    this.#hadKeys = this.#root.dataset.keys === "guest";
    queueMicrotask(() => {
      if (this.#rfb) this.#hadKeys = false;
    });
    releaseKeys();
    this.#showKeys(false);
  }

  #showKeys(isGuest: boolean): void {
    this.#root.dataset.keys = isGuest ? "guest" : "page";
  }
}

/** The buttons above the screen. */
import type { Input } from "./input";
import type { Say } from "./parts";
import { PasteDialog } from "./paste";

/** Chromium's; without it Escape leaves the full screen instead of reaching the guest. */
interface KeyboardLock {
  lock?: () => Promise<void>;
}

function fileName(machine: string): string {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  const time = local.toISOString().slice(0, 19).replace("T", "-").replaceAll(":", "");
  return `${machine.replaceAll(/[\\/:*?"<>|\s]+/g, "_")}-${time}.png`;
}

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export class Toolbar {
  readonly #root: HTMLElement;
  readonly #input: Input;
  readonly #say: Say;
  readonly #actions: Record<string, (button: HTMLElement) => void>;
  readonly #paste: PasteDialog;
  #isConnected = false;

  constructor(root: HTMLElement, input: Input, say: Say) {
    this.#root = root;
    this.#input = input;
    this.#say = say;
    this.#paste = new PasteDialog(root, input, say);
    this.#actions = {
      enter: () => input.enter(),
      leave: () => input.leave(),
      keys: (button) => input.sendChord(button.dataset.keys ?? ""),
      paste: () => this.#paste.open(),
      fit: () => this.#toggleFit(),
      "view-only": () => this.#toggleViewOnly(),
      screenshot: () => this.#takeScreenshot(),
      "soft-keyboard": () => input.openSoftKeyboard(),
      "full-screen": () => void this.#toggleFullScreen(),
      tools: (button) => this.#toggleTools(button),
    };
    root.addEventListener("click", (event) => this.#clicked(event));
    document.addEventListener("fullscreenchange", () => this.#update());
    this.#update();
  }

  update(isConnected: boolean): void {
    this.#isConnected = isConnected;
    if (!isConnected) this.#paste.stop();
    this.#update();
  }

  #clicked(event: Event): void {
    const target = event.target as Element;
    const button = target.closest<HTMLElement>("[data-action]");
    if (button?.getAttribute("aria-disabled") !== "true") {
      this.#actions[button?.dataset.action ?? ""]?.(button as HTMLElement);
    }
    const link = target.closest<HTMLAnchorElement>("a[data-window]");
    if (link && window.open(link.href, link.target, "popup,width=1100,height=800")) {
      event.preventDefault();
    }
  }

  #toggleFit(): void {
    this.#input.setFitted(!this.#input.isFitted);
    this.#update();
  }

  #toggleViewOnly(): void {
    this.#input.setViewOnly(!this.#input.isViewOnly);
    this.#update();
  }

  #toggleTools(button: HTMLElement): void {
    const isOpen = this.#root.dataset.tools !== "open";
    this.#root.dataset.tools = isOpen ? "open" : "closed";
    button.setAttribute("aria-expanded", String(isOpen));
  }

  #takeScreenshot(): void {
    this.#input.rfb?.toBlob((blob) => {
      if (blob) download(blob, fileName(this.#root.dataset.name ?? ""));
    }, "image/png");
  }

  async #toggleFullScreen(): Promise<void> {
    if (document.fullscreenElement) {
      await document.exitFullscreen();
      return;
    }
    await this.#root.requestFullscreen();
    const { keyboard } = navigator as Navigator & { keyboard?: KeyboardLock };
    await keyboard?.lock?.().catch(() => undefined);
  }

  #update(): void {
    this.#setPressed("fit", this.#input.isFitted);
    this.#setPressed("view-only", this.#input.isViewOnly);
    this.#setPressed("full-screen", document.fullscreenElement === this.#root);
    for (const button of this.#root.querySelectorAll<HTMLButtonElement>("button[data-needs]")) {
      const isLacking = button.dataset.needs === "control" && this.#input.isViewOnly;
      this.#setDisabled(button, isLacking);
    }
  }

  /** Not `disabled`: that would take the button from the keyboard, and with it the reason. */
  #setDisabled(button: HTMLButtonElement, isLacking: boolean): void {
    const level = this.#root.dataset.level;
    const reason = isLacking ? (level === "control" ? "switched-to-view" : "view-level") : "closed";
    const isDisabled = isLacking || !this.#isConnected;
    button.setAttribute("aria-disabled", String(isDisabled));
    button.classList.toggle("disabled", isDisabled);
    button.dataset.title ??= button.title;
    button.title = isDisabled ? this.#say(reason) : button.dataset.title;
    const { popover: menu } = button.dataset;
    if (menu && isDisabled) button.removeAttribute("popovertarget");
    else if (menu) button.setAttribute("popovertarget", menu);
  }

  #setPressed(action: string, isPressed: boolean): void {
    const button = this.#root.querySelector(`[data-action="${action}"]`);
    button?.setAttribute("aria-pressed", String(isPressed));
  }
}

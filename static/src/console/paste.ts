/** The dialog that takes a text, and the strip that shows how far its typing is. */
import type RFB from "@novnc/novnc";
import type { Input } from "./input";
import { withoutKey } from "./keys";
import { chooseLayout, chosenLayout, layoutNamed } from "./layouts";
import { part, type Say } from "./parts";
import { normalized, type } from "./typing";

export class PasteDialog {
  readonly #root: HTMLElement;
  readonly #input: Input;
  readonly #say: Say;
  readonly #dialog: HTMLDialogElement;
  readonly #text: HTMLTextAreaElement;
  readonly #layout: HTMLSelectElement;
  #typing: AbortController | undefined;

  constructor(root: HTMLElement, input: Input, say: Say) {
    this.#root = root;
    this.#input = input;
    this.#say = say;
    this.#dialog = part<HTMLDialogElement>(root, "paste");
    this.#text = part<HTMLTextAreaElement>(root, "paste-text");
    this.#layout = part<HTMLSelectElement>(root, "paste-layout");
    this.#layout.value = chosenLayout();
    this.#text.addEventListener("input", () => this.#warn());
    this.#layout.addEventListener("change", () => this.#warn());
    this.#dialog.addEventListener("click", (event) => {
      if ((event.target as Element).closest("[data-close]")) this.#dialog.close();
    });
    part(root, "paste-form").addEventListener("submit", () => void this.#submit());
    part(root, "typing-stop").addEventListener("click", () => this.#stopOrHide());
  }

  open(): void {
    this.#text.value = "";
    this.#warn();
    this.#dialog.showModal();
    this.#text.focus();
  }

  stop(): void {
    this.#typing?.abort();
  }

  #stopOrHide(): void {
    if (this.#typing) this.stop();
    else part(this.#root, "typing").hidden = true;
  }

  #warn(): void {
    const missing = withoutKey(normalized(this.#text.value), layoutNamed(this.#layout.value));
    const warning = part(this.#root, "paste-warning");
    warning.hidden = missing.length === 0;
    warning.textContent = this.#say("without-key", { characters: missing.slice(0, 20).join(" ") });
  }

  async #submit(): Promise<void> {
    chooseLayout(this.#layout.value);
    const text = normalized(this.#text.value);
    this.#text.value = "";
    const { rfb } = this.#input;
    if (!rfb || !text || this.#typing) return;
    this.#typing = new AbortController();
    await this.#run(rfb, text, this.#typing.signal);
    this.#typing = undefined;
  }

  async #run(rfb: RFB, text: string, signal: AbortSignal): Promise<void> {
    const strip = part(this.#root, "typing");
    const total = [...text].length;
    const onProgress = (count: number) => this.#show("typing", count, total);
    onProgress(0);
    strip.hidden = false;
    const layout = layoutNamed(this.#layout.value);
    const count = await type(rfb, text, { layout, signal, onProgress });
    strip.hidden = count === total;
    if (count === total) this.#input.enter();
    else this.#show("typing-stopped", count, total);
  }

  #show(sentence: string, count: number, total: number): void {
    part(this.#root, "typing-count").textContent = this.#say(sentence, { count, total });
    Object.assign(part<HTMLProgressElement>(this.#root, "typing-bar"), {
      max: total,
      value: count,
    });
  }
}

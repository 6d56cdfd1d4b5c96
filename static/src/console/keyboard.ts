/** Whose keys they are: the guest's while its screen has the focus, and how to get them back. */

const CHORD = ["ControlLeft", "AltLeft"];

/**
 * Calls back when left Ctrl and left Alt were pressed together and released with nothing between.
 * Neither browsers nor guests mean anything by that, and virt-manager's users know it.
 */
export function watchChord(target: HTMLElement, onChord: () => void): void {
  const down = new Set<string>();
  let isComplete = false;
  let isSpoilt = false;

  const forget = () => {
    down.clear();
    isComplete = isSpoilt = false;
  };
  const spoil = () => {
    isSpoilt = down.size > 0;
  };
  const press = (event: KeyboardEvent) => {
    down.add(event.code);
    if (!CHORD.includes(event.code)) isSpoilt = true;
    if (CHORD.every((code) => down.has(code))) isComplete = true;
  };
  const release = (event: KeyboardEvent) => {
    down.delete(event.code);
    if (down.size > 0) return;
    // noVNC still has to tell the guest that this key is up, and does so after us.
    if (isComplete && !isSpoilt) setTimeout(onChord);
    forget();
  };

  // noVNC stops the events at the canvas: they are only to be had on their way down.
  target.addEventListener("keydown", press, { capture: true });
  target.addEventListener("keyup", release, { capture: true });
  target.addEventListener("pointerdown", spoil, { capture: true });
  target.addEventListener("focusout", forget);
  window.addEventListener("blur", forget);
}

/**
 * Tells the guest that all keys are up. noVNC does so when the window loses the focus, not when
 * its canvas does: a Shift held while clicking into the toolbar would stay down for ever.
 */
export function releaseKeys(): void {
  window.dispatchEvent(new Event("blur"));
}

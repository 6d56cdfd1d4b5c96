/** A text, typed key by key. */
import type RFB from "@novnc/novnc";
import { send, strokesFor } from "./keys";
import type { Layout } from "./layouts";

/**
 * QEMU hands one key event to the guest every 10 ms (its -vnc key-delay-ms) and forgets those that
 * find its queue full; a character is two events, with Shift four. A guest without KVM also has a
 * keyboard buffer of 16 bytes to empty in time.
 */
const PAUSE_MS = 30;
const PAUSE_HELD_MS = 60;

export function normalized(text: string): string {
  return text.replaceAll("\r\n", "\n").replaceAll("\r", "\n");
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Types until the end or until the signal. Answers how many characters went out. */
export async function type(
  rfb: RFB,
  text: string,
  options: { layout: Layout; signal: AbortSignal; onProgress: (count: number) => void },
): Promise<number> {
  let count = 0;
  for (const character of text) {
    for (const stroke of strokesFor(character, options.layout)) {
      if (options.signal.aborted) return count;
      send(rfb, stroke);
      await pause(stroke.held.length ? PAUSE_HELD_MS : PAUSE_MS);
    }
    options.onProgress(++count);
  }
  return count;
}

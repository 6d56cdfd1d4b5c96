/** Keys as RFB wants them: X11's keysym, and the place on the keyboard as KeyboardEvent.code. */
import type RFB from "@novnc/novnc";
import type { Layout } from "./layouts";

export interface Key {
  keysym: number;
  /** Null where no key is known: QEMU then looks the keysym up in the machine's own VNC keymap. */
  code: string | null;
}

export interface Stroke {
  key: Key;
  held: Key[];
}

const F1 = 0xffbe;

/** X11/keysymdef.h. The names are those of KeyboardEvent.code, and mostly of KeyboardEvent.key. */
const KEYSYMS: Record<string, number> = {
  AltLeft: 0xffe9,
  AltRight: 0xfe03, // ISO_Level3_Shift, what AltGr is
  ArrowDown: 0xff54,
  ArrowLeft: 0xff51,
  ArrowRight: 0xff53,
  ArrowUp: 0xff52,
  Backspace: 0xff08,
  ControlLeft: 0xffe3,
  Delete: 0xffff,
  End: 0xff57,
  Enter: 0xff0d,
  Escape: 0xff1b,
  Home: 0xff50,
  PageDown: 0xff56,
  PageUp: 0xff55,
  PrintScreen: 0xff61,
  ShiftLeft: 0xffe1,
  Space: 0x20,
  Tab: 0xff09,
  ...Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`F${i + 1}`, F1 + i])),
};

/** The key of this name, or null where it is none of those that only have a name. */
export function named(code: string): Key | null {
  const keysym = KEYSYMS[code];
  return keysym === undefined ? null : { keysym, code };
}

/** Latin 1 is its own keysym; above, the keysym is the code point in a range of its own (X11 protocol, appendix A). */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  return point <= 0xff ? point : 0x01000000 | point;
}

const CONTROL: Record<string, string> = { "\n": "Enter", "\t": "Tab", " ": "Space" };

function press(code: string): Key {
  return { keysym: KEYSYMS[code] ?? 0, code };
}

/** What to press for one character. */
export function strokesFor(character: string, layout: Layout): Stroke[] {
  const control = CONTROL[character];
  if (control) return [{ key: press(control), held: [] }];
  const keysym = keysymOf(character);
  const place = layout.get(character);
  if (!place) return [{ key: { keysym, code: null }, held: [] }];
  const held = [];
  if (place.hasShift) held.push(press("ShiftLeft"));
  if (place.hasAltGr) held.push(press("AltRight"));
  const stroke = { key: { keysym, code: place.code }, held };
  return place.isDead ? [stroke, { key: press("Space"), held: [] }] : [stroke];
}

/** The characters of a text that no key of this layout makes, each once. */
export function withoutKey(text: string, layout: Layout): string[] {
  const missing = [...text].filter(
    (character) => !(character in CONTROL) && !layout.has(character),
  );
  return [...new Set(missing)];
}

export function send(rfb: RFB, { key, held }: Stroke): void {
  for (const { keysym, code } of held) rfb.sendKey(keysym, code, true);
  rfb.sendKey(key.keysym, key.code, true);
  rfb.sendKey(key.keysym, key.code, false);
  for (const { keysym, code } of held.toReversed()) rfb.sendKey(keysym, code, false);
}

/** "ControlLeft AltLeft Delete": the last one is pressed while the others are held. */
export function chord(codes: string): Stroke {
  const keys = codes.split(" ").map(press);
  const key = keys.pop() as Key;
  return { key, held: keys };
}

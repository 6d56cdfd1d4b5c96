/**
 * Which key makes which character. A scancode means a place on the keyboard; the guest's own layout
 * decides what it writes. So that a pasted text arrives as it is, the layout set in the guest counts.
 *
 * Three strings per layout, alone, with Shift and with AltGr, in the order of PLACES; a space where
 * there is nothing. Source: xkeyboard-config, symbols/us, gb, de and fr.
 */

const PLACES = [
  ..."Backquote Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0".split(" "),
  ..."Minus Equal".split(" "),
  ..."KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight".split(" "),
  ..."Backslash KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote".split(" "),
  ..."IntlBackslash KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash".split(" "),
];

interface Drawing {
  alone: string;
  shift: string;
  altGr: string;
  /** Characters whose key only waits for the next one; a space after it writes them. */
  dead: string;
}

const DRAWINGS: Record<string, Drawing> = {
  us: {
    alone: "`1234567890-=" + "qwertyuiop[]" + "\\asdfghjkl;'" + " zxcvbnm,./",
    shift: "~!@#$%^&*()_+" + "QWERTYUIOP{}" + '|ASDFGHJKL:"' + " ZXCVBNM<>?",
    altGr: "",
    dead: "",
  },
  gb: {
    alone: "`1234567890-=" + "qwertyuiop[]" + "#asdfghjkl;'" + "\\zxcvbnm,./",
    shift: '¬!"£$%^&*()_+' + "QWERTYUIOP{}" + "~ASDFGHJKL:@" + "|ZXCVBNM<>?",
    altGr: "    €",
    dead: "",
  },
  de: {
    alone: "^1234567890ß´" + "qwertzuiopü+" + "#asdfghjklöä" + "<yxcvbnm,.-",
    shift: '°!"§$%&/()=?`' + "QWERTZUIOPÜ*" + "'ASDFGHJKLÖÄ" + ">YXCVBNM;:_",
    altGr: "  ²³   {[]}\\ " + "@ €        ~" + "            " + "|      µ   ",
    dead: "^´`",
  },
  fr: {
    alone: "²&é\"'(-è_çà)=" + "azertyuiop $" + "*qsdfghjklmù" + "<wxcvbn,;:!",
    shift: " 1234567890°+" + "AZERTYUIOP¨£" + "µQSDFGHJKLM%" + ">WXCVBN?./§",
    altGr: "  ~#{[|`\\^@]}" + "  €        ¤",
    dead: "¨",
  },
};

export interface Place {
  code: string;
  hasShift: boolean;
  hasAltGr: boolean;
  isDead: boolean;
}

export type Layout = ReadonlyMap<string, Place>;

function draw(drawing: Drawing): Layout {
  const layout = new Map<string, Place>();
  for (const row of ["alone", "shift", "altGr"] as const) {
    [...drawing[row]].forEach((character, index) => {
      const code = PLACES[index];
      if (character === " " || code === undefined || layout.has(character)) return;
      layout.set(character, {
        code,
        hasShift: row === "shift",
        hasAltGr: row === "altGr",
        isDead: drawing.dead.includes(character),
      });
    });
  }
  return layout;
}

/** The layout of this name; the American one where we do not know it. */
export function layoutNamed(name: string): Layout {
  return draw(DRAWINGS[name] ?? (DRAWINGS.us as Drawing));
}

/** What the person last said about the guest's layout. */
export function chosenLayout(): string {
  return localStorage.getItem("console-layout") ?? "us";
}

export function chooseLayout(name: string): void {
  localStorage.setItem("console-layout", name);
}

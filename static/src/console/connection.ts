/** One connection: a websocket and noVNC upon it, from dialling until it has ended. */
import RFB from "@novnc/novnc";

/** How the server says why it closed (kvmweb/console); anything else is the network's doing. */
export const WITHDRAWN = 4001;
export const IDLE = 4002;
export const TOO_LONG = 4003;
export const STOPPED = 4004;

/** A host that accepts and never answers must not keep the console "connecting". */
const HANDSHAKE_MS = 20_000;

export interface End {
  /** The websocket's close code; 1006 where the other side said nothing. */
  code: number;
  reason: string;
}

export interface Listener {
  onOpen(): void;
  onEnd(end: End): void;
  onPasswordWanted(): void;
}

/** noVNC on this socket, drawing into `target`. `onEnd` is called once, also after `disconnect`. */
export function connect(target: HTMLElement, socket: WebSocket, listener: Listener): RFB {
  const end: End = { code: 1006, reason: "" };
  // Ours comes before noVNC's, which hides the code.
  socket.addEventListener("close", ({ code, reason }) => Object.assign(end, { code, reason }));
  const rfb = new RFB(target, socket, { shared: true });
  const giveUp = window.setTimeout(() => rfb.disconnect(), HANDSHAKE_MS);
  rfb.addEventListener("connect", () => {
    window.clearTimeout(giveUp);
    listener.onOpen();
  });
  rfb.addEventListener("credentialsrequired", () => {
    window.clearTimeout(giveUp);
    listener.onPasswordWanted();
  });
  rfb.addEventListener("securityfailure", ({ detail }) => {
    end.reason = detail.reason ?? "";
  });
  rfb.addEventListener("disconnect", () => {
    window.clearTimeout(giveUp);
    listener.onEnd(end);
  });
  return rfb;
}

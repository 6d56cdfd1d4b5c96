/** What we use of noVNC 1.7 (docs/API.md in the package; it ships no types). */
declare module "@novnc/novnc" {
  export interface RFBOptions {
    shared?: boolean;
    credentials?: { username?: string; password?: string; target?: string };
  }

  export interface RFBEvents {
    connect: CustomEvent<Record<string, never>>;
    disconnect: CustomEvent<{ clean: boolean }>;
    credentialsrequired: CustomEvent<{ types: string[] }>;
    securityfailure: CustomEvent<{ status: number; reason?: string }>;
    desktopname: CustomEvent<{ name: string }>;
  }

  export default class RFB {
    constructor(target: HTMLElement, channel: WebSocket, options?: RFBOptions);
    background: string;
    clipViewport: boolean;
    dragViewport: boolean;
    focusOnClick: boolean;
    scaleViewport: boolean;
    viewOnly: boolean;
    addEventListener<K extends keyof RFBEvents>(
      type: K,
      listener: (event: RFBEvents[K]) => void,
    ): void;
    blur(): void;
    disconnect(): void;
    focus(options?: FocusOptions): void;
    sendCredentials(credentials: NonNullable<RFBOptions["credentials"]>): void;
    sendKey(keysym: number, code: string | null, isDown?: boolean): void;
    toBlob(callback: (blob: Blob | null) => void, type?: string): void;
  }
}

declare module "*.css";

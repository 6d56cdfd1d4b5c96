/** A ticket opens one connection. It is asked for anew each time, with the person's session. */

export interface Ticket {
  path: string;
  protocols: string[];
  expires: string;
}

export type Refusal =
  | { kind: "off" | "refused" | "busy"; sentence: string }
  | { kind: "gone" | "signed-out" | "unreachable"; sentence: "" };

export type Answer = Ticket | Refusal;

interface Problem {
  sentence?: string;
  is_off?: boolean;
  is_passing?: boolean;
}

function refusal({ sentence = "", is_off, is_passing }: Problem): Refusal {
  return { kind: is_off ? "off" : is_passing ? "busy" : "refused", sentence };
}

async function read(response: Response): Promise<Answer> {
  if (response.type === "opaqueredirect" || response.status === 401) {
    return { kind: "signed-out", sentence: "" };
  }
  if (response.status === 404) return { kind: "gone", sentence: "" };
  if (response.status >= 500) return { kind: "unreachable", sentence: "" };
  const body: unknown = await response.json();
  return response.ok ? (body as Ticket) : refusal(body as Problem);
}

export async function askForTicket(url: string, level: string, csrf: string): Promise<Answer> {
  try {
    // A redirect is the way to the sign-in page; following it would hide that.
    const response = await fetch(url, {
      method: "POST",
      headers: { "X-CSRFToken": csrf, Accept: "application/json" },
      body: new URLSearchParams({ level }),
      redirect: "manual",
    });
    return await read(response);
  } catch {
    return { kind: "unreachable", sentence: "" };
  }
}

export function isTicket(answer: Answer): answer is Ticket {
  return "path" in answer;
}

/** The website's own origin, with the scheme of a websocket. */
export function openSocket(ticket: Ticket): WebSocket {
  const url = new URL(ticket.path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return new WebSocket(url, ticket.protocols);
}

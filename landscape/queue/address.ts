// Where the queue's server is: redis://HOST:PORT, or rediss:// for TLS, with user, password and database where the server
// asks for them: rediss://USER:PASSWORD@HOST:PORT/0. Messages show the address without its password.
import { SettingsError } from "../../engine/host/index.ts";

/** The password may be given here instead of in the address, which other users of the machine can see. */
export const passwordVariable = "FOOTHOLD_QUEUE_PASSWORD";

export interface QueueAddress {
  readonly host: string;
  readonly port: number;
  readonly db: number;
  readonly username?: string;
  readonly password?: string;
  /** Present for TLS. Certificates are checked; NODE_EXTRA_CA_CERTS names a file with an authority of your own. */
  readonly tls?: { readonly servername: string };
  /** For messages: without the password. */
  readonly shown: string;
}

const expected = "expected redis://HOST:PORT, or rediss://USER:PASSWORD@HOST:PORT with TLS";

/** Problems of the setting, for `defineSettings`. The text is not repeated, since it may hold a password. */
export function addressProblems(text: string): string[] {
  return text === "" || parsed(text) !== null ? [] : [`queue: ${expected}`];
}

/** @throws SettingsError when the text is no address */
export function queueAddress(text: string, environment: NodeJS.ProcessEnv = process.env): QueueAddress {
  const url = parsed(text);
  if (url === null) throw new SettingsError(`queue: ${expected}.`);
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const password = url.password === "" ? (environment[passwordVariable] ?? "") : decodeURIComponent(url.password);
  const port = url.port === "" ? 6379 : Number(url.port);
  return {
    ...{ host, port, db: Number(url.pathname.slice(1)) },
    ...(url.username !== "" && { username: decodeURIComponent(url.username) }),
    ...(password !== "" && { password }),
    ...(url.protocol === "rediss:" && { tls: { servername: host } }),
    shown: `${url.protocol}//${url.hostname}:${port}`,
  };
}

function parsed(text: string): URL | null {
  try {
    const url = new URL(text);
    decodeURIComponent(url.username + url.password);
    const isAddress =
      ["redis:", "rediss:"].includes(url.protocol) && url.hostname !== "" && /^(\/\d*)?$/.test(url.pathname);
    return isAddress && url.search === "" && url.hash === "" ? url : null;
  } catch {
    return null;
  }
}

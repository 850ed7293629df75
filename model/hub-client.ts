// Requests to a Hugging Face hub: its address, the token, retries.
//
// @huggingface/hub requests models and file lists through `HubClient.fetch`; files are downloaded by
// `HubClient.request`. Both follow one policy. A broken or silent connection and the statuses 408, 429 and 5xx are
// transient: the request is repeated
// after the time that the server names, or after a delay that doubles, five times at most. Any other refusal is final, and its
// message says how to fix it. The token is sent to the endpoint's origin only and never appears in a message: if the
// endpoint
// redirects to another host, the fetch standard drops Authorization.
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { asError, CheckpointError, SettingsError } from "../engine/host/index.ts";

/** Environment variables, as huggingface_hub for Python reads them. */
export type HubEnvironment = Readonly<Record<string, string | undefined>>;

export interface ClientOptions {
  /** What is asked for, as messages call it. Default "model". */
  what?: "model" | "data set";
  environment?: HubEnvironment;
  signal?: AbortSignal;
  /** Wait before the second try; it doubles with each one. Default 1000 ms. */
  retryMs?: number;
  /** A connection that delivers nothing for this long counts as broken. Default 60 000 ms. */
  stallMs?: number;
}

/** The hub gave no answer: there was no connection, or the hub was busy or broken at each try. It may answer later. */
export class HubUnreachableError extends CheckpointError {
  override name = "HubUnreachableError";
}

/** A failure that may not occur again if the request is repeated. */
export class TransientError extends Error {
  override name = "TransientError";
  readonly waitMs: number | null;
  constructor(message: string, waitMs: number | null = null) {
    super(message);
    this.waitMs = waitMs;
  }
}

const tries = 5;
/** Maximum wait that a server's Retry-After can cause. */
const longestWaitMs = 60_000;

/** The cache's home: HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface. */
export function hubHome(environment: HubEnvironment): string {
  const cache = environment["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return expanded(environment["HF_HOME"] ?? join(cache, "huggingface"), environment);
}

/** Expands ~ and $NAME or ${NAME} as Python's expanduser and expandvars do; unknown names stay. */
export function expanded(path: string, environment: HubEnvironment): string {
  return path
    .replace(/^~(?=[\\/]|$)/, homedir())
    .replace(/\$(?:(\w+)|\{(\w+)\})/g, (all, bare, braced) => environment[bare ?? braced] ?? all);
}

export function isOn(value: string | undefined): boolean {
  return ["1", "ON", "YES", "TRUE"].includes(value?.toUpperCase() ?? "");
}

/** HF_TOKEN, else the token that `hf auth login` stored in the cache's home. */
function readToken(environment: HubEnvironment): { token: string; from: string } | null {
  for (const from of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
    const token = environment[from]?.trim();
    if (token) return { token, from };
  }
  if (isOn(environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"])) return null;
  const path = expanded(environment["HF_TOKEN_PATH"] ?? join(hubHome(environment), "token"), environment);
  const token = existsSync(path) ? readFileSync(path, "utf8").trim() : "";
  return token === "" ? null : { token, from: path };
}

export class HubClient {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly #origin: string;
  readonly #token: { token: string; from: string } | null;
  readonly #signal: AbortSignal | undefined;
  readonly #retryMs: number;
  readonly #stallMs: number;
  readonly #name: string;
  readonly #what: "model" | "data set";

  /**
   * @param name  the model asked for, as messages name it: "ORG/NAME" or "ORG/NAME@REVISION"
   * @throws SettingsError when HF_ENDPOINT is no web address
   */
  constructor(
    name: string,
    { environment = process.env, signal, retryMs, stallMs, what = "model" }: ClientOptions = {},
  ) {
    this.endpoint = (environment["HF_ENDPOINT"] || "https://huggingface.co").replace(/\/+$/, "");
    this.#origin = addressOf(this.endpoint);
    this.#token = readToken(environment);
    this.#signal = signal;
    this.#retryMs = retryMs ?? 1000;
    this.#stallMs = stallMs ?? 60_000;
    this.#name = name;
    this.#what = what;
  }

  /**
   * `fetch` for @huggingface/hub: the whole response, or one of this file's errors. The package never sees the token.
   */
  readonly fetch: typeof fetch = (input) => {
    const url = input instanceof Request ? input.url : String(input);
    return this.request(
      url,
      () => ({ accept: "application/json" }),
      async (response) => new Response(await response.arrayBuffer(), { headers: response.headers }),
    );
  };

  /**
   * Repeats a request until it is answered.
   * @param headers  returns the headers of the next try
   * @param use      processes the response (200, 206 or 416). While it reads the body it calls `arrived`, with true if
   *                 it has read further than any earlier try: the count of failures then restarts, so a long download
   *                 may break often
   * @throws HubUnreachableError after the last try, CheckpointError when the hub refuses, the signal's reason
   */
  async request<T>(
    url: string,
    headers: () => Record<string, string>,
    use: (response: Response, arrived: (isFurther: boolean) => void) => Promise<T>,
  ): Promise<T> {
    for (let failures = 0; ; ) {
      try {
        return await this.#try(url, headers(), (response, alive) =>
          use(response, (isFurther) => {
            alive();
            if (isFurther) failures = 0;
          }),
        );
      } catch (thrown) {
        this.#signal?.throwIfAborted();
        const passing = asTransient(thrown);
        if (passing === null) throw thrown;
        failures++;
        const waitMs = passing.waitMs ?? this.#retryMs * 2 ** (failures - 1);
        if (failures >= tries || waitMs > longestWaitMs) throw this.#unreachable(passing, failures);
        await sleep(waitMs, undefined, { signal: this.#signal });
      }
    }
  }

  async #try<T>(
    url: string,
    headers: Record<string, string>,
    use: (response: Response, alive: () => void) => Promise<T>,
  ): Promise<T> {
    const stalled = new AbortController();
    const silence = new TransientError(`nothing came for ${this.#stallMs / 1000} s`);
    const timer = setTimeout(() => stalled.abort(silence), this.#stallMs);
    const signal = AbortSignal.any([stalled.signal, ...(this.#signal === undefined ? [] : [this.#signal])]);
    try {
      const isOwn = new URL(url).origin === this.#origin;
      // No compression: resuming and hashing need the bytes of the file itself.
      const authorization: Record<string, string> =
        isOwn && this.#token !== null ? { authorization: `Bearer ${this.#token.token}` } : {};
      const response = await fetch(url, {
        headers: { "accept-encoding": "identity", ...headers, ...authorization },
        signal,
      });
      if (response.ok || response.status === 416) return await use(response, () => void timer.refresh());
      await response.body?.cancel();
      throw this.#refusal(response);
    } finally {
      clearTimeout(timer);
      stalled.abort(silence); // releases a body that was not read to its end
    }
  }

  #unreachable({ message, waitMs }: TransientError, failures: number): HubUnreachableError {
    if (waitMs !== null && waitMs > longestWaitMs)
      return new HubUnreachableError(
        `${this.#name}: ${this.endpoint} ${message}, and asks to come back in ${Math.ceil(waitMs / 1000)} s. Try again then; ` +
          "with a token in HF_TOKEN more requests are allowed.",
      );
    return new HubUnreachableError(
      `${this.#name}: ${this.endpoint} cannot be reached: ${message}, ${failures} times. No ${this.#what === "model" ? "folder" : "file"} here has this name ` +
        "either: check it, or the connection (behind a proxy: HTTPS_PROXY and NODE_USE_ENV_PROXY=1). The same command resumes a broken download.",
    );
  }

  /** The error for a status other than 2xx, by the hub's error code if there is one. */
  #refusal({ status, headers }: Response): Error {
    if (status === 408 || status === 429 || status >= 500)
      return new TransientError(`answered ${status}`, retryAfterMs(headers.get("retry-after")));
    const [repository, revision] = this.#name.split("@");
    const code = headers.get("x-error-code") ?? "";
    const what = this.#what;
    const page = `${this.endpoint}/${what === "model" ? "" : "datasets/"}${repository}`;
    const here = what === "model" ? "a folder" : "a file";
    const refuse = (fault: string) =>
      new CheckpointError(`${this.#name}: ${fault} (${this.endpoint} answered ${status})`);
    if (code === "GatedRepo" || (status === 403 && code === ""))
      return refuse(
        `the ${what} is gated: accept its terms at ${page}, then ${
          this.#token === null ? "set HF_TOKEN to a token" : `see that the token in ${this.#token.from} is one`
        } of that account with the right to read it.`,
      );
    if (status === 401 && this.#token !== null && code !== "RepoNotFound")
      return refuse(
        `the hub does not accept the token in ${this.#token.from}. Make a new one at ${this.endpoint}/settings/tokens, or remove ` +
          `it: a public ${what} needs no token.`,
      );
    if (code === "RevisionNotFound")
      return refuse(`there is no revision ${JSON.stringify(revision ?? "main")}. ${page}/commits lists the revisions.`);
    if (code === "EntryNotFound") return refuse("a listed file no longer exists. Try again.");
    if (status === 401 || code === "RepoNotFound")
      return refuse(
        `there is neither ${here} of this name here nor a public ${what} on the hub. Check the spelling; for a private ${what} ` +
          `${this.#token === null ? "set HF_TOKEN to a token that may read it" : `the token in ${this.#token.from} must be one that may read it`}.`,
      );
    if (status === 404)
      return refuse(
        `there is neither ${here} of this name here nor a ${what}, or none with this revision, on the hub.`,
      );
    return refuse(`the hub refuses the request. Try again later, or give ${here} on disk.`);
  }
}

function addressOf(endpoint: string): string {
  // The message does not repeat the value, which may hold a password.
  const parsed = URL.canParse(endpoint) ? new URL(endpoint) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.username !== "" || parsed.password !== "")
    throw new SettingsError(
      "HF_ENDPOINT: expected a web address without user and password, such as https://huggingface.co. Correct it or unset it.",
    );
  return parsed.origin;
}

/** Retry-After is in seconds, or a date. */
function retryAfterMs(text: string | null): number | null {
  if (text === null) return null;
  const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}

/** Node's fetch throws a TypeError with a cause when a connection fails or breaks; other errors are not transient. */
function asTransient(thrown: unknown): TransientError | null {
  if (thrown instanceof TransientError) return thrown;
  if (!(thrown instanceof TypeError) || thrown.cause === undefined) return null;
  const cause = asError(thrown.cause);
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : thrown.message;
  return new TransientError(cause.message === "" ? code : cause.message);
}

// Requests to a Hugging Face hub: its address, the token, retries.
//
// @huggingface/hub asks for models and lists of files through `HubClient.fetch`; files come through `HubClient.request`. Both
// follow one policy. A broken or silent connection and the answers 408, 429 and 5xx are transient: the request is repeated
// after the time that the server names, or after a delay that doubles, five times at most. Any other refusal is final, and its
// message says how to mend it. The token is sent to the endpoint's own origin only and is in no message: when the endpoint
// redirects to another host, the fetch standard drops Authorization.
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { asError, CheckpointError, SettingsError } from "../engine/host/index.ts";

/** Environment variables, as huggingface_hub for Python reads them. */
export type HubEnvironment = Readonly<Record<string, string | undefined>>;

export interface ClientOptions {
  environment?: HubEnvironment;
  signal?: AbortSignal;
  /** Wait before the second try; it doubles with each one. Default 1000 ms. */
  retryMs?: number;
  /** A connection that brings nothing for so long is broken. Default 60 000 ms. */
  stallMs?: number;
}

/** The hub gave no answer: no connection, or it was busy or broken at each try. It may answer later. */
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
/** Longest time that a server's Retry-After is waited for. */
const longestWaitMs = 60_000;

/** The cache's home: HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface. */
export function hubHome(environment: HubEnvironment): string {
  const cache = environment["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return expanded(environment["HF_HOME"] ?? join(cache, "huggingface"), environment);
}

/** As Python's expanduser and expandvars: ~ and $NAME or ${NAME}; unknown names stay. */
export function expanded(path: string, environment: HubEnvironment): string {
  return path
    .replace(/^~(?=[\\/]|$)/, homedir())
    .replace(/\$(?:(\w+)|\{(\w+)\})/g, (all, bare, braced) => environment[bare ?? braced] ?? all);
}

export function isOn(value: string | undefined): boolean {
  return ["1", "ON", "YES", "TRUE"].includes(value?.toUpperCase() ?? "");
}

/** HF_TOKEN, else what `hf auth login` has left in the cache's home. */
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

  /**
   * @param name  the model asked for, as messages name it: "ORG/NAME" or "ORG/NAME@REVISION"
   * @throws SettingsError when HF_ENDPOINT is no web address
   */
  constructor(name: string, { environment = process.env, signal, retryMs, stallMs }: ClientOptions = {}) {
    this.endpoint = (environment["HF_ENDPOINT"] || "https://huggingface.co").replace(/\/+$/, "");
    this.#origin = addressOf(this.endpoint);
    this.#token = readToken(environment);
    this.#signal = signal;
    this.#retryMs = retryMs ?? 1000;
    this.#stallMs = stallMs ?? 60_000;
    this.#name = name;
  }

  /** `fetch` for @huggingface/hub: the whole answer, or an error of ours. The package never sees the token. */
  readonly fetch: typeof fetch = (input) => {
    const url = input instanceof Request ? input.url : String(input);
    return this.request(
      url,
      () => ({ accept: "application/json" }),
      async (response) => new Response(await response.arrayBuffer(), { headers: response.headers }),
    );
  };

  /**
   * Asks until it is answered.
   * @param headers  of the next try
   * @param use      what to make of an answer (200, 206 or 416); while it reads the body it calls `arrived`, with true where
   *                 it has come further than ever, so that a long download may break more often than a short one
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
      // Bytes as they are: what is resumed and hashed must not be a compressed form of the file.
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
      stalled.abort(silence); // lets go of a body that was not read to its end
    }
  }

  #unreachable({ message, waitMs }: TransientError, failures: number): HubUnreachableError {
    if (waitMs !== null && waitMs > longestWaitMs)
      return new HubUnreachableError(
        `${this.#name}: ${this.endpoint} ${message}, and asks to come back in ${Math.ceil(waitMs / 1000)} s. Try again then; ` +
          "with a token in HF_TOKEN more requests are allowed.",
      );
    return new HubUnreachableError(
      `${this.#name}: ${this.endpoint} cannot be reached: ${message}, ${failures} times. Check the connection (behind a proxy: ` +
        "HTTPS_PROXY and NODE_USE_ENV_PROXY=1), or give a folder on disk. The same command goes on where a download broke.",
    );
  }

  /** What an answer other than 2xx means, by the hub's error code where it gives one. */
  #refusal({ status, headers }: Response): Error {
    if (status === 408 || status === 429 || status >= 500)
      return new TransientError(`answered ${status}`, retryAfterMs(headers.get("retry-after")));
    const [repository, revision] = this.#name.split("@");
    const code = headers.get("x-error-code") ?? "";
    const page = `${this.endpoint}/${repository}`;
    const refuse = (fault: string) =>
      new CheckpointError(`${this.#name}: ${fault} (${this.endpoint} answered ${status})`);
    if (code === "GatedRepo" || (status === 403 && code === ""))
      return refuse(
        `the model is gated: accept its terms at ${page}, then ${
          this.#token === null ? "set HF_TOKEN to a token" : `see that the token in ${this.#token.from} is one`
        } of that account with the right to read it.`,
      );
    if (status === 401 && this.#token !== null && code !== "RepoNotFound")
      return refuse(
        `the hub does not accept the token in ${this.#token.from}. Make a new one at ${this.endpoint}/settings/tokens, or take ` +
          "it away: a public model needs none.",
      );
    if (code === "RevisionNotFound")
      return refuse(
        `there is no revision ${JSON.stringify(revision ?? "main")}. See ${page}/commits for those there are.`,
      );
    if (code === "EntryNotFound") return refuse("a file of the listing is no longer there. Try again.");
    if (status === 401 || code === "RepoNotFound")
      return refuse(
        "there is neither a folder of this name here nor a public model on the hub. Check the spelling; for a private model " +
          `${this.#token === null ? "set HF_TOKEN to a token that may read it" : `the token in ${this.#token.from} must be one that may read it`}.`,
      );
    if (status === 404)
      return refuse("there is neither a folder of this name here nor a model, or none with this revision, on the hub.");
    return refuse("the hub refuses the request. Try again later, or give a folder on disk.");
  }
}

function addressOf(endpoint: string): string {
  // The value is not repeated where it may hold a password.
  const parsed = URL.canParse(endpoint) ? new URL(endpoint) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.username !== "" || parsed.password !== "")
    throw new SettingsError(
      "HF_ENDPOINT: expected a web address without user and password, such as https://huggingface.co. Mend it or unset it.",
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

// A hub of one small repository on this machine: the parts of the Hugging Face hub's API that fetching a model needs, and
// the ways in which they fail. Large files are answered by a redirect to a second server, as the hub does it.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

export const name = "org/small";
export const commit = "0123456789abcdef0123456789abcdef01234567";

export interface Seen {
  host: "hub" | "storage";
  url: string;
  authorization: string | undefined;
  range: string | undefined;
}

/** Answers a request in place of the server; false leaves it to the server. */
type Fault = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface HubServer {
  endpoint: string;
  /** All requests since the last `forget`. */
  seen: Seen[];
  files: Map<string, Buffer>;
  /** Tried in order for each request. */
  faults: Fault[];
  /** Back to a server without faults. */
  reset(): void;
  close(): Promise<void>;
}

export function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

export function gitHash(content: Buffer): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

const isLarge = (path: string): boolean => /\.(safetensors|parquet)$/.test(path);

/** The name under which the cache keeps a file's content. */
export function etagOf(path: string, content: Buffer): string {
  return isLarge(path) ? sha256(content) : gitHash(content);
}

export function refuse(response: ServerResponse, status: number, headers: Record<string, string> = {}): true {
  response.writeHead(status, headers).end("refused");
  return true;
}

/** Sends the file from the range's start on and breaks the connection after `count` bytes. */
export function breakAfter(response: ServerResponse, content: Buffer, request: IncomingMessage, count: number): true {
  const start = startOf(request);
  writeHeader(response, content, start);
  response.write(content.subarray(start, start + count), () => setTimeout(() => response.destroy(), 20));
  return true;
}

function startOf(request: IncomingMessage): number {
  return Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
}

function writeHeader(response: ServerResponse, content: Buffer, start: number): void {
  const length = { "content-length": String(content.length - start) };
  if (start === 0) response.writeHead(200, length);
  else
    response.writeHead(206, { ...length, "content-range": `bytes ${start}-${content.length - 1}/${content.length}` });
}

function sendFile(request: IncomingMessage, response: ServerResponse, content: Buffer): void {
  const start = startOf(request);
  writeHeader(response, content, start);
  response.end(content.subarray(start));
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a port");
  return `http://127.0.0.1:${address.port}`;
}

export async function startHub(
  files: ReadonlyMap<string, Buffer>,
  kind: "model" | "dataset" = "model",
): Promise<HubServer> {
  const api = `/api/${kind}s/${name}`;
  const page = kind === "model" ? `/${name}` : `/datasets/${name}`;
  const seen: Seen[] = [];
  const faults: Fault[] = [];
  const current = new Map(files);
  const note = (host: Seen["host"], { url = "", headers: { authorization, range } }: IncomingMessage) =>
    seen.push({ host, url, authorization, range });
  const storage = createServer((request, response) => {
    note("storage", request);
    if (faults.some((fault) => fault(request, response))) return;
    const content = current.get(decodeURIComponent(request.url ?? "").slice(1));
    if (content === undefined) refuse(response, 404);
    else sendFile(request, response, content);
  });
  const storageEndpoint = await listen(storage);
  const hub = createServer((request, response) => {
    note("hub", request);
    if (faults.some((fault) => fault(request, response))) return;
    const [path] = decodeURIComponent(request.url ?? "").split("?");
    const json = (value: unknown) =>
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
    if (!path.startsWith(`${api}/`) && !path.startsWith(`${page}/`))
      return refuse(response, 404, { "x-error-code": "RepoNotFound" });
    if (path === `${api}/revision/main` || path === `${api}/revision/${commit}`)
      return json({ _id: "1", id: name, sha: commit, lastModified: "2026-01-01T00:00:00.000Z" });
    if (path.startsWith(`${api}/revision/`)) return refuse(response, 404, { "x-error-code": "RevisionNotFound" });
    if (path === `${api}/tree/${commit}`)
      return json(
        [...current].map(([path, content]) => ({
          type: "file",
          path,
          size: content.length,
          oid: gitHash(content),
          ...(isLarge(path) ? { lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } } : {}),
        })),
      );
    const file = path.replace(`${page}/resolve/${commit}/`, "");
    const content = current.get(file);
    if (content === undefined) return refuse(response, 404, { "x-error-code": "EntryNotFound" });
    if (isLarge(file)) return response.writeHead(302, { location: `${storageEndpoint}/${file}` }).end();
    return sendFile(request, response, content);
  });
  return {
    endpoint: await listen(hub),
    seen,
    files: current,
    faults,
    reset() {
      seen.length = 0;
      faults.length = 0;
      current.clear();
      for (const [path, content] of files) current.set(path, content);
    },
    async close() {
      for (const server of [hub, storage]) {
        server.closeAllConnections();
        await new Promise((done) => server.close(done));
      }
    },
  };
}

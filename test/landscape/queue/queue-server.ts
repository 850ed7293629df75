// Valkey or Redis from the distribution's packages, started on a free port for a test.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

/** The program's name; null if neither is installed. */
export const serverProgram: string | null =
  ["valkey-server", "redis-server"].find((name) => spawnSync(name, ["--version"]).status === 0) ?? null;

export const noServer =
  "neither valkey-server nor redis-server is installed (apt-get install valkey-server, or redis-server)";

export class TestServer {
  readonly port: number;
  readonly #folder: string;
  readonly #options: readonly string[];
  #child: ChildProcess | null = null;

  private constructor(port: number, options: readonly string[]) {
    this.port = port;
    this.#options = options;
    this.#folder = mkdtempSync(join(tmpdir(), "foothold-queue-server-"));
  }

  /** @param options  further ones of the server */
  static async start(options: readonly string[] = []): Promise<TestServer> {
    const server = new TestServer(await freePort(), options);
    await server.run();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts it again with what it kept. */
  async run(): Promise<void> {
    if (serverProgram === null) throw new Error(noServer);
    const kept = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", this.#folder];
    this.#child = spawn(serverProgram, ["--port", String(this.port), ...kept, ...this.#options], { stdio: "ignore" });
    while (!(await answers(this.port))) {
      if (this.#child.exitCode !== null) throw new Error(`${serverProgram} ended at once`);
      await setTimeout(20);
    }
  }

  /** kill -9. @param forgets  whether what it kept is deleted too */
  async kill(forgets: boolean): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
    if (forgets) rmSync(join(this.#folder, "appendonlydir"), { recursive: true, force: true });
  }

  async stop(): Promise<void> {
    await this.kill(true);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/** Whether something listens and has loaded what it kept. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, "127.0.0.1", () => socket.write("PING\r\n"));
    socket.on("data", (data) => {
      resolve(/^\+PONG|NOAUTH/.test(data.toString()));
      socket.destroy();
    });
    socket.on("error", () => resolve(false));
  });
}

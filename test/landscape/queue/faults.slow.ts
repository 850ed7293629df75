// The fault table of docs/workers.md: workers killed at 20 random moments, the server killed with and without its memory, a worker
// frozen for longer than its lock, one whose disk is full, two of one name, a server with TLS and password. Each time the
// folder has the bytes of one machine.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import * as assert from "uvu/assert";
import { SmallDisk } from "../../small-disk.ts";
import { describe } from "../../support.ts";
import { type Given, sweepIn, warmModel } from "../given-sweep.ts";
import { contents, expectDone, expectSame, type Started, start } from "../tiny-study.ts";
import { noServer, serverProgram, TestServer } from "./queue-server.ts";

/** 81 cells, each a stripe of its own. */
const study: Given = { "landscape.points": 9, "landscape.maxNewTokens": 16, "landscape.pointsAtOnce": 1 };

function worker(
  url: string,
  flags: Readonly<Record<string, string>> = {},
  environment: NodeJS.ProcessEnv = {},
): Started {
  const all = { "lock-seconds": "3", "idle-seconds": "600", shared: dirname(warmModel), name: "worker", ...flags };
  return start(
    ["landscape/work.ts", "--queue", url, ...Object.entries(all).flatMap(([key, value]) => [`--${key}`, value])],
    environment,
  );
}

/** Writes files of this size into a folder until its disk has no room for another. */
function fill(folder: string, size: number): void {
  try {
    for (let k = 0; ; k++) writeFileSync(join(folder, `ballast-${size}-${k}`), Buffer.alloc(size));
  } catch {
    // It is full.
  }
}

async function end(...workers: readonly Started[]): Promise<void> {
  for (const { child } of workers) child.kill("SIGTERM");
  await Promise.all(workers.map(({ ended }) => ended));
}

if (serverProgram === null) describe("landscape/queue/faults", (test) => test.skip("all of it", noServer));
else
  describe("landscape/queue/faults", (test) => {
    const place = mkdtempSync(join(tmpdir(), "foothold-queue-faults-"));
    const disk = new SmallDisk(join(place, "full-disk"));
    test.after(() => {
      rmSync(place, { recursive: true, force: true });
    });
    const at = (name: string): string => join(place, name, "run");
    /** Hands the study out while `during` happens, and compares the folder with that of one machine. */
    const survives = async (
      name: string,
      during: (server: TestServer, cells: () => number) => Promise<unknown>,
    ): Promise<string> => {
      const server = await TestServer.start();
      try {
        let told = "";
        const cellsFile = join(at(name), "landscape/step-000000/slice-0/cells.jsonl");
        const cells = (): number => contents(dirname(cellsFile)).get("cells.jsonl")?.toString().split("\n").length ?? 0;
        const sweeping = sweepIn(at(name), [warmModel], { ...study, queue: server.url }).then((lines) => {
          told = lines;
        });
        await Promise.all([sweeping, during(server, cells)]);
        expectSame(contents(at(name)), contents(at("whole")));
        return told;
      } finally {
        await server.stop();
      }
    };
    const until = async (holds: () => boolean): Promise<void> => {
      while (!holds()) await setTimeout(20);
    };

    test("one machine", async () => {
      await sweepIn(at("whole"), [warmModel], study);
    });

    test("workers killed at 20 random moments", async () => {
      const done = () => existsSync(join(at("killed"), "report.html"));
      let kills = 0;
      await survives("killed", async ({ url }, cells) => {
        while (kills < 20 && !done()) {
          const one = worker(url);
          // It measures one cell after the other: some time after it has handed one in, it is in the middle of another.
          const before = cells();
          await until(() => cells() > before || done() || one.child.exitCode !== null);
          await setTimeout(Math.random() * 300);
          one.child.kill("SIGKILL");
          await one.ended;
          if (!done()) kills++;
        }
        const last = worker(url);
        await until(done);
        await end(last);
      });
      assert.is(kills, 20, "the study was done before");
    });

    test("the server killed with its memory, then without", async () => {
      const told = await survives("server", async (server, cells) => {
        const both = [worker(server.url), worker(server.url)];
        for (const [after, forgets] of [
          [2, false],
          [6, true],
          [10, false],
        ] as const) {
          await until(() => cells() > after);
          await server.kill(forgets);
          await setTimeout(1000);
          await server.run();
        }
        await until(() => existsSync(join(at("server"), "report.html")));
        await end(...both);
      });
      for (const text of ["cannot be reached", "is back", "has lost"]) assert.match(told, text);
    });

    test("a worker frozen for longer than its lock", async () => {
      let said = "";
      await survives("frozen", async ({ url }, cells) => {
        const frozen = worker(url, { name: "frozen" });
        await until(() => cells() > 2);
        frozen.child.kill("SIGSTOP");
        const other = worker(url);
        await until(() => existsSync(join(at("frozen"), "report.html")));
        frozen.child.kill("SIGCONT");
        await setTimeout(3000);
        await end(other, frozen);
        said = (await frozen.ended).stderr;
      });
      assert.match(said, "The server does not take a result");
    });

    if (disk.missing !== null) test.skip("a full disk", disk.missing);
    else
      test("a worker whose folders for temporary and cached files are full", async () => {
        const full = disk.folder;
        await disk.with("size=64k", async () => {
          for (const size of [32_768, 4096]) fill(full, size);
          await survives("full", async ({ url }) => {
            const only = worker(url, {}, { HOME: full, XDG_CACHE_HOME: full, TMPDIR: full, NODE_COMPILE_CACHE: full });
            await until(() => existsSync(join(at("full"), "report.html")) || only.child.exitCode !== null);
            await end(only);
          });
        });
      });

    test("two workers of one name", async () => {
      const told = await survives("names", async ({ url }) => {
        const both = [worker(url), worker(url)];
        await until(() => existsSync(join(at("names"), "report.html")));
        await end(...both);
      });
      assert.match(told, "Worker worker (2): ");
      assert.match(told, "1 of 1 cells have the same bits");
    });

    if (spawnSync("openssl", ["version"]).status !== 0)
      test.skip("TLS and password", "no openssl to make a certificate");
    else
      test("TLS and password", async () => {
        const [key, cert] = [join(place, "key.pem"), join(place, "cert.pem")];
        const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
        const made = spawnSync("openssl", [
          "req",
          "-x509",
          "-newkey",
          "rsa:2048",
          "-nodes",
          "-days",
          "2",
          "-keyout",
          key,
          "-out",
          cert,
          ...names,
        ]);
        assert.is(made.status, 0, made.stderr.toString());
        const server = await TestServer.start(["--requirepass", "right", "--tls-port", "0"]);
        const tls = [
          "--tls-port",
          String(server.port + 1),
          "--tls-cert-file",
          cert,
          "--tls-key-file",
          key,
          "--tls-ca-cert-file",
          cert,
        ];
        await server.stop();
        const secure = await TestServer.start(["--requirepass", "right", ...tls, "--tls-auth-clients", "no"]);
        const url = `rediss://:right@localhost:${server.port + 1}`;
        const trusted = await worker(url, { "idle-seconds": "1" }, { NODE_EXTRA_CA_CERTS: cert }).ended;
        expectDone(trusted);
        const doubted = await worker(url, { "idle-seconds": "1" }).ended;
        assert.is(doubted.status, 2, doubted.stderr);
        assert.not.match(doubted.stderr, "right@");
        await secure.stop();
      });
  });

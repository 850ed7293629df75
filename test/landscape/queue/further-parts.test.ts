// What workers of a queue measure besides maps, each kind by itself: the folder has the bytes of one machine, and the command that hands
// out measures nothing.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import * as assert from "uvu/assert";
import { describe } from "../../support.ts";
import { type Given, measuredIn, sweepIn, trlFolder } from "../given-sweep.ts";
import { contents, expectSame } from "../tiny-study.ts";
import { noServer, serverProgram, TestServer } from "./queue-server.ts";
import { type RunningWorker, workerProcess, workIn } from "./queue-workers.ts";

/** Four grid points, and each point of a part a stripe of its own. */
const least: Given = { "landscape.points": 2, "landscape.pointsAtOnce": 1 };
const rays: Given = { "landscape.rays.count": 2, "landscape.rays.radii": [0.05], "landscape.rays.signs": "plus" };

if (serverProgram === null) describe("landscape/queue/further-parts", (test) => test.skip("all of it", noServer));
else
  describe("landscape/queue/further-parts", (test) => {
    const place = mkdtempSync(join(tmpdir(), "foothold-queue-parts-"));
    const two = [join(place, "checkpoint-1"), join(place, "checkpoint-2")];
    const open = async (): Promise<{ server: TestServer; worker: RunningWorker }> => {
      for (const [index, folder] of two.entries()) await trlFolder(folder, 1 + index / 50);
      const server = await TestServer.start();
      return { server, worker: await workIn(server.url, {}, [place]) };
    };
    let opened: ReturnType<typeof open> | undefined;
    const servers: TestServer[] = [];
    test.after(async () => {
      for (const server of servers) await server.stop();
      const both = await opened;
      await both?.worker.stop();
      await both?.server.stop();
      rmSync(place, { recursive: true, force: true });
    });
    // The report shows a folder's name, so all have the same.
    const at = (name: string): string => join(place, name, "run");

    /** Measures with a worker what one machine measures, and compares. @returns the parts of stripes, and what was said */
    const expectSameOf = async (
      name: string,
      checkpoints: readonly string[],
      given: Given,
    ): Promise<{ parts: string[]; told: string }> => {
      opened ??= open();
      const { server } = await opened;
      const flags = { ...least, ...given };
      await sweepIn(at(name), checkpoints, flags);
      const hasBegun = existsSync(join(at(`${name}-queue`), "timings.jsonl"));
      const before = hasBegun ? measuredIn(at(`${name}-queue`)) : { tokens: 0, completions: 0 };
      const sweeping = sweepIn(at(`${name}-queue`), checkpoints, { ...flags, queue: server.url });
      const told = await Promise.race([sweeping, refusal()]);
      expectSame(contents(at(`${name}-queue`)), contents(at(name)));
      const timings = readFileSync(join(at(`${name}-queue`), "timings.jsonl"), "utf8");
      assert.equal(measuredIn(at(`${name}-queue`)), before, "the one that hands out measures nothing");
      return { parts: [...timings.matchAll(/"part":"([^"]*)"/g)].map(([, part]) => part).sort(), told };
    };
    /** Nobody would measure for a study that the worker refuses. */
    const refusal = async (): Promise<never> => {
      for (;;) {
        const said = (await opened)?.worker.lines.find((line) => line.includes("is refused"));
        if (said !== undefined) throw new Error(said);
        await setTimeout(100, undefined, { ref: false });
      }
    };
    const count = (parts: readonly string[], name: string): number => parts.filter((part) => part === name).length;

    test("fixed KL: a job for each half of a ray, then one for each point; a half without a scale stays a gap", async () => {
      // No scale reaches the last KL.
      const kl = { "landscape.rays.kl": [0.01, 1e12] };
      const { parts, told } = await expectSameOf("fixed", [two[0]], { ...rays, ...kl });
      assert.is(count(parts, "scales"), 2);
      assert.is(count(parts, "fixed-kl"), 2);
      assert.is(count(parts, "ray-lengths"), 1);
      assert.match(told, /ray 1, first half: no scale was found that reaches KL 1000000000000/);
    });

    test("worst-case rays; one without a direction stays a gap", async () => {
      const worst = { "landscape.rays.worst": ["kl", "reward"] };
      const { parts, told } = await expectSameOf("worst", [two[0]], { ...rays, ...worst });
      assert.is(count(parts, "worst-kl"), 2);
      assert.is(count(parts, "worst-reward"), 2);
      assert.ok(readdirSync(join(at("worst-queue"), "landscape/step-000001/worst-kl")).includes("cells.jsonl"));
      assert.is(told.includes("worst-case ray (reward): "), told.includes("It stays a gap"), told);
    });

    test("fresh prompts, once the rays are measured", async () => {
      const { parts } = await expectSameOf("fresh", [two[0]], { ...rays, "landscape.rays.freshPrompts": 2 });
      assert.ok(count(parts, "fresh") >= 1, parts.join());
    });

    test("pairs", async () => {
      const { parts } = await expectSameOf("pairs", two, { "landscape.pairs": true });
      assert.is(count(parts, "pairs"), 2);
    });

    test("a worker killed in the middle of a search", async () => {
      const given = { ...least, ...rays, "landscape.rays.kl": [0.01] };
      await sweepIn(at("whole"), [two[0]], given);
      const server = await TestServer.start();
      servers.push(server);
      const sweeping = sweepIn(at("killed"), [two[0]], { ...given, queue: server.url });
      const { signal, stderr } = await workerProcess(server.url, { FOOTHOLD_KILL_AT: "worker-item:2" }, place).ended;
      assert.is(signal, "SIGKILL", stderr);
      const last = await workIn(server.url, {}, [place]);
      const told = await sweeping;
      // The second search, the lengths of the rays, 4 cells, 3 points at the radius, 2 at the KL; and it checks the first search.
      assert.is(await last.stop(), 1 + 1 + 4 + 3 + 2 + 1);
      assert.match(told, "1 of 1 cells have the same bits");
      expectSame(contents(at("killed")), contents(at("whole")));
      assert.match(told, "A worker died or froze: Step 1, scales");
    });

    test("a noise floor", async () => {
      const { parts } = await expectSameOf("noise", [two[0]], { "landscape.noiseFloor": 3 });
      assert.is(count(parts, "noise-floor"), 3);
    });

    test("a smaller study on one machine grows with workers: only what is new is handed out", async () => {
      const small = { ...least, ...rays, "landscape.rays.count": 1, "landscape.rays.kl": [0.01] };
      const large = { ...small, "landscape.rays.count": 2, "landscape.rays.kl": [0.01, 0.02] };
      const noise = { "landscape.noiseFloor": 2 };
      await sweepIn(at("grown-queue"), [two[0]], { ...small, ...noise });
      const { parts } = await expectSameOf("grown", [two[0]], { ...large, "landscape.noiseFloor": 3 });
      for (const [name, jobs] of [
        ["rays", 1],
        ["ray-lengths", 1],
        ["scales", 2],
        ["fixed-kl", 3],
        ["noise-floor", 1],
        ["slice-0", 0],
      ] as const)
        assert.is(count(parts, name), jobs, name);
    });

    test("KL from another checkpoint", async () => {
      const { parts } = await expectSameOf("from", two, { "landscape.klFrom": [1] });
      assert.is(count(parts, "slice-0-kl-from-1"), 4);
    });
  });

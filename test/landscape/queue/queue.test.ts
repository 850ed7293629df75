// Workers of a queue: the folder has the bytes of one machine, whoever dies, freezes, forgets or differs meanwhile.
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Job, Queue, Worker } from "bullmq";
import * as assert from "uvu/assert";
import { readJournal, readJson } from "../../../engine/host/index.ts";
import { journalledCell, referenceSet } from "../../../landscape/files/cells.ts";
import { referencePath, sliceFolder, slicePaths } from "../../../landscape/files/layout.ts";
import { sliceFacts } from "../../../landscape/files/slice-facts.ts";
import {
  announcementSchema,
  checked,
  type Plan,
  packResult,
  type Stripe,
  stripeSchema,
} from "../../../landscape/queue/messages.ts";
import { openServer, type QueueServer } from "../../../landscape/queue/server.ts";
import { announcements } from "../../../landscape/queue/study-message.ts";
import { describe, throwsMessage } from "../../support.ts";
import { type Given, measuredIn, sweepIn, trlFolder, warmModel } from "../given-sweep.ts";
import { contents, expectSame } from "../tiny-study.ts";
import { noServer, serverProgram, TestServer } from "./queue-server.ts";
import { workerProcess, workIn } from "./queue-workers.ts";

const plans = new Map<string, Plan>();
/** The plan of the one that hands out a queue's cells. */
function announced(queue: string): Plan {
  const plan = plans.get(queue);
  if (plan === undefined) throw new Error(`${queue} is not announced`);
  return plan;
}

/** The queue that is announced, once it is. */
async function queueOf(server: QueueServer, lockMs = 20_000): Promise<{ queue: Queue; worker: Worker }> {
  const all = server.queue(announcements);
  for (;;) {
    const [job] = await all.getJobs(["waiting"]);
    if (job !== undefined) {
      const { queue, plan } = checked(announcementSchema, job.data);
      plans.set(queue, plan);
      return { queue: server.queue(queue), worker: server.worker(queue, lockMs) };
    }
    await setTimeout(20);
  }
}

/** Takes the next job whose stripe is wanted, and leaves the others to the workers. */
async function nextOf(worker: Worker, token: string, isWanted: (stripe: Stripe) => boolean): Promise<Job> {
  for (;;) {
    const job: Job | undefined = await worker.getNextJob(token, { block: false });
    if (job !== undefined && isWanted(checked(stripeSchema, job.data))) return job;
    if (job !== undefined) await job.moveToDelayed(Date.now() + 50, token);
    await setTimeout(20);
  }
}

/** Every cell is a stripe of its own. */
const small: Given = { "landscape.pointsAtOnce": 1 };

if (serverProgram === null) describe("landscape/queue", (test) => test.skip("all of it", noServer));
else
  describe("landscape/queue", (test) => {
    const place = mkdtempSync(join(tmpdir(), "foothold-queue-"));
    const servers: TestServer[] = [];
    test.after(async () => {
      for (const server of servers) await server.stop();
      rmSync(place, { recursive: true, force: true });
    });
    const serve = async (options: readonly string[] = []): Promise<TestServer> => {
      const server = await TestServer.start(options);
      servers.push(server);
      return server;
    };
    // The report shows a folder's name, so all have the same.
    const at = (name: string): string => join(place, name, "run");
    const whole = (): Map<string, Buffer> => contents(at("whole"));

    test("two workers of one name give the bytes of one machine, and one checks the other", async () => {
      await sweepIn(at("whole"), [warmModel]);
      const { url } = await serve();
      const workers = [await workIn(url), await workIn(url)];
      const told = await sweepIn(at("two"), [warmModel], { ...small, queue: url });
      const cells = await Promise.all(workers.map((worker) => worker.stop()));
      expectSame(contents(at("two")), whole());
      assert.is(cells[0] + cells[1], 10, "9 cells and a check");
      assert.match(told, "Check by second workers: 1 of 1 cells have the same bits.");
      assert.match(told, /Worker worker: \d/);
      assert.match(told, /Worker worker \(2\): \d/);
      const server = await openServer(url, () => {});
      assert.equal(await server.queue(announcements).getJobs(["waiting"]), [], "nothing is left on the server");
      await server.close();
    });

    test("workers killed in the middle of a cell, and a server that forgets", async () => {
      const server = await serve();
      const { url } = server;
      const sweeping = sweepIn(at("killed"), [warmModel], { ...small, queue: url });
      const killed = ["worker-cell:1", "worker-cell:3"].map((moment) =>
        workerProcess(url, { FOOTHOLD_KILL_AT: moment }),
      );
      for (const { ended } of killed) {
        const { signal, stderr } = await ended;
        assert.is(signal, "SIGKILL", stderr);
      }
      await server.kill(false);
      await server.run();
      await server.kill(true);
      await server.run();
      const worker = await workIn(url);
      const told = await sweeping;
      const cells = await worker.stop();
      expectSame(contents(at("killed")), whole());
      assert.ok(cells >= 5 && cells <= 9, String(cells));
      assert.match(told, "has lost");
      // Clients try again after 100 ms: a server that is back sooner was never away for them.
      assert.is(told.includes("cannot be reached"), told.includes("is back"), told);
    });

    test("a frozen worker, one that returns nonsense, and one of another driver change nothing", async () => {
      const { url } = await serve();
      const sweeping = sweepIn(at("odd"), [warmModel], { ...small, queue: url });
      const others = await openServer(url, () => {});
      const { queue, worker } = await queueOf(others, 1000);
      // A frozen worker does not renew its lock, and hands in late.
      const frozen = await nextOf(worker, "frozen", () => true);
      const nonsense = await nextOf(worker, "nonsense", () => true);
      await nonsense.moveToCompleted({ schemaVersion: 1, worker: "x", run: "rm -rf /" }, "nonsense", false);
      const refused = await workIn(url, { adapter: "another adapter" });
      const sound = await workIn(url);
      const told = await sweeping;
      assert.is(await refused.stop(), 0);
      assert.match(refused.lines.join(), /is refused: the adapter is "another adapter", that of the study/);
      assert.is(await sound.stop(), 9);
      expectSame(contents(at("odd")), whole());
      assert.match(told, /a worker returned what is no result .* They are handed out again/);
      assert.match(told, "A worker died or froze");
      await throwsMessage(() => frozen.moveToCompleted({}, "frozen", false), "Missing");
      await queue.close();
      await others.close();
    });

    test("mixed drivers are marked, and a second worker with other numbers raises an alarm", async () => {
      const { url } = await serve();
      const out = at("mixed");
      const sweeping = sweepIn(out, [warmModel], { ...small, queue: url, "allow-mixed": true });
      const first = await workIn(url, { adapter: "another adapter" });
      const others = await openServer(url, () => {});
      const { queue, worker } = await queueOf(others);
      // With one worker alone nobody waits for its check.
      const second = { id: randomUUID(), name: "second" };
      await others.queue(announcements).addJobLog(queue.name, JSON.stringify(second));
      const check = await nextOf(worker, "second", (stripe) => stripe.notBy !== null);
      const [asked] = checked(stripeSchema, check.data).cells;
      const own = sliceFolder(out, { step: 0, slice: 0 });
      const { records } = readJournal(slicePaths(own).cells, journalledCell, () => {});
      const found = records.find(({ i, j }) => i === asked.i && j === asked.j);
      if (found === undefined) throw new Error("the checked cell is not in the folder");
      const { conversationBytes: _, ...record } = found;
      const reward = record.rollouts.reward.map((of) => of.map((one) => one + 1e-9));
      const result = packResult(
        { worker: second, plan: announced(check.queueName), seconds: 1 },
        {
          reference: readJson(referencePath(out, 0), referenceSet),
          facts: readJson(slicePaths(own).directions, sliceFacts),
          cells: [{ record: { ...record, rollouts: { ...record.rollouts, reward } }, conversations: "" }],
          ...{ worst: null, other: null, items: [] },
        },
      );
      await check.moveToCompleted(result, "second", false);
      const told = await sweeping;
      await first.stop();
      await others.close();
      const alarm = new RegExp(
        `Alarm: step 0, slice 0, cell \\(${asked.i}, ${asked.j}\\): two workers \\(worker and second\\)`,
      );
      assert.match(told, alarm);
      assert.match(readFileSync(join(out, "report.html"), "utf8"), alarm);
      assert.match(readFileSync(join(out, "figures/reward-map.svg"), "utf8"), /different\s+drivers/);
      const cells = "landscape/step-000000/slice-0/cells.jsonl";
      assert.equal(contents(out).get(cells), whole().get(cells), "the first numbers count");
      assert.match(told, "0 of 1 cells have the same bits. ALARM: 1 differ");
    });

    test("maps at a fixed KL have the bytes of one machine; a KL that no scale reaches ends with its words", async () => {
      const scaled = { "landscape.directions.kl": 0.1 };
      await sweepIn(at("fixed"), [warmModel], scaled);
      const { url } = await serve();
      const workers = [await workIn(url), await workIn(url)];
      await sweepIn(at("fixed-two"), [warmModel], { ...small, ...scaled, queue: url });
      expectSame(contents(at("fixed-two")), contents(at("fixed")));
      const far = { "landscape.directions.kl": 1e12, "landscape.points": 2, queue: url };
      const { message } = await throwsMessage(() => sweepIn(at("far"), [warmModel], far), "stripes of cells failed");
      assert.match(message, /KL 1000000000000 at the edge .* is not reached: no scale of δ/);
      for (const worker of workers) await worker.stop();
    });

    test("maps, rays, a line, pairs and a noise floor of two checkpoints have the bytes of one machine", async () => {
      const checkpoints = [join(place, "checkpoint-1"), join(place, "checkpoint-2")];
      for (const [index, folder] of checkpoints.entries()) await trlFolder(folder, 1 + index / 50);
      const more: Given = {
        ...{ "landscape.points": 2, "landscape.pairs": true, "landscape.noiseFloor": 2 },
        ...{ "landscape.rays.count": 1, "landscape.rays.radii": [0.05], "landscape.rays.kl": [0.01] },
        ...{ "landscape.line.stepsAhead": [1], "landscape.line.positions": [1], "landscape.klFrom": [1] },
      };
      await sweepIn(at("rays"), checkpoints, more);
      const { url } = await serve();
      const workers = [await workIn(url, {}, [place]), await workIn(url, {}, [place])];
      await sweepIn(at("rays-two"), checkpoints, { ...more, ...small, queue: url });
      const cells = await Promise.all(workers.map((worker) => worker.stop()));
      // Around each checkpoint 4 cells, 3 points on rays and their length, 2 scales and points at fixed KL, a pair and 2 draws. Then 2 points
      // on the line, 4 cells' KL from the other checkpoint, and a check.
      assert.is(cells[0] + cells[1], 2 * (4 + 3 + 1 + 2 + 2 + 1 + 2) + 2 + 4 + 1);
      assert.equal(measuredIn(at("rays-two")), { tokens: 0, completions: 0 }, "by the one that hands out");
      expectSame(contents(at("rays-two")), contents(at("rays")));
    });

    test("a wrong password is told without it", async () => {
      const { port } = await serve(["--requirepass", "right"]);
      const refused = await throwsMessage(() => openServer(`redis://:wr0ng@127.0.0.1:${port}`, () => {}), "refuses");
      assert.not.match(refused.message, "wr0ng");
      await (await openServer(`redis://:right@127.0.0.1:${port}`, () => {})).close();
    });
  });

// A sweep that is stopped after any forward pass loses no finished rollout and no scored grid point, says what it keeps, moves
// its progress meanwhile, and ends with the bytes of an undisturbed one.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Phase } from "../../../engine/host/index.ts";
import { slicePaths } from "../../../landscape/files/layout.ts";
import { sweep } from "../../../landscape/measure/sweep.ts";
import { prepareReference, type SweepContext } from "../../../landscape/measure/sweep-context.ts";
import { UnderWay } from "../../../landscape/measure/under-way.ts";
import { loadChat, loadModel, loadTokenizer } from "../../../model/index.ts";
import { type Environment, openEnvironment } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { describe, fixturePath, throwsMessage } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";

const small = {
  "landscape.points": 3,
  "landscape.pointsAtOnce": 4,
  "landscape.maxNewTokens": 4,
  "landscape.reference.prompts": 2,
  "landscape.reference.rollouts": 2,
  "landscape.rollouts.prompts": 3,
  "landscape.rollouts.rollouts": 2,
  "landscape.conversations": 2,
  "batch.rows": 6,
};
const settings = settingsOf(small);

interface Watched {
  phase: Phase;
  values: number[];
  notes: string[];
}

/** A phase that calls `seen` with the number of times that it moved. */
function watched(seen: (moves: number) => void = () => {}): Watched {
  const values: number[] = [];
  const notes: string[] = [];
  const phase: Phase = {
    advance() {},
    moveTo(value, note) {
      values.push(value);
      notes.push(note ?? "");
      seen(values.length);
    },
    phase: () => phase,
    done() {},
  };
  return { phase, values, notes };
}

describe("landscape/measure/interrupted-sweep", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-interrupted-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  for (const refill of ["on", "off"] as const)
    test(`refill ${refill}: stopped again and again, between rollouts and between points: the same bytes, and little is computed twice`, async () => {
      const { backend } = await webgpuBackend();
      const model = fixturePath("tiny-warm-start");
      const { config, weights } = await loadModel(backend, model);
      const told: string[] = [];
      const context = (signal: AbortSignal): SweepContext => ({
        model: { backend, config, weights },
        chat,
        environment,
        settings: { ...settings, landscape: { ...settings.landscape, refill } },
        place: { step: 0, trajectory: [], state: "", folderOf: () => model },
        signal,
        say: (line) => told.push(line),
      });
      const chat = await loadChat(model, await loadTokenizer(model));
      const environment = await openEnvironment(settings.environment);
      const never = new AbortController().signal;
      const reference = await prepareReference(context(never), watched().phase);

      const undisturbed = watched();
      const whole = join(place, `whole-${refill}`);
      assert.is(await sweep(context(never), 0, whole, reference, undisturbed.phase, 10), 19);
      assert.equal(told, []);
      // Progress moves within the first batch of four cells, never back, and ends at the nine.
      const { values, notes } = undisturbed;
      const moves = values.filter((value) => value < 14).length;
      // With refilled slots there are no passes that only score.
      assert.ok(moves > (refill === "on" ? 14 : 20), `it moves with forward passes: ${moves} times`);
      values.forEach((value, k) => {
        assert.ok(value >= (values[k - 1] ?? 10), `${values[k - 1]} → ${value}`);
      });
      assert.is(values.at(-1), 19);
      const shown =
        refill === "on"
          ? /^rollouts \d+\/\d+, \d+ tokens, \d+% drafted$/
          : /^rollouts \d+\/24, \d+ tokens, \d+% drafted$/;
      assert.ok(notes.some((note) => shown.test(note)));
      assert.is(
        notes.some((note) => /^scoring point \d of 4$/.test(note)),
        refill === "off",
      );

      const folder = join(place, `stopped-${refill}`);
      const paths = slicePaths(folder);
      let passes = 0;
      let stops = 0;
      let sawRollouts = false;
      let sawPartOfBatch = false;
      for (let finished = false; !finished; ) {
        const controller = new AbortController();
        const watch = watched((moves) => {
          passes++;
          if (moves === 13) controller.abort();
        });
        try {
          await sweep(context(controller.signal), 0, folder, reference, watch.phase, 0);
          finished = true;
        } catch (thrown) {
          if (thrown !== controller.signal.reason) throw thrown;
          stops++;
          const cells = readFileSync(paths.cells, "utf8").split("\n").length - 1;
          const kept = existsSync(paths.underWay) ? readFileSync(paths.underWay, "utf8").split("\n").length - 1 : 0;
          const said =
            /^The sweep stops after the forward pass under way.* Kept: (\d+) of 9 grid points of this map and \d+ finished/;
          const [, saidCells] = told.at(-1)?.match(said) ?? [];
          // The pass under way may have been the last one of the points that are scored together, which are then kept too.
          assert.ok(Number(saidCells) <= cells && Number(saidCells) >= cells - 4, `${cells} cells: ${told.at(-1)}`);
          sawRollouts ||= kept > 0;
          sawPartOfBatch ||= cells % 4 !== 0;
        }
        assert.ok(stops < 200, "every attempt gets further");
      }
      // In a batch, all four points are scored in one pass.
      assert.ok(
        stops > 3 && sawRollouts && (sawPartOfBatch || refill === "off"),
        `${stops} stops, ${sawRollouts}, ${sawPartOfBatch}`,
      );
      // Only conversations under way are begun again: each stop costs less than the 13 passes before it.
      assert.ok(passes < values.length * 3, `${passes} passes for ${values.length}`);
      assert.equal(readdirSync(folder).sort(), readdirSync(whole).sort());
      assert.not.ok(existsSync(paths.underWay));
      for (const name of readdirSync(whole))
        assert.ok(readFileSync(join(folder, name)).equals(readFileSync(join(whole, name))), name);
      // Both ways have the same bytes.
      const other = join(place, `whole-${refill === "on" ? "off" : "on"}`);
      if (existsSync(other))
        for (const name of readdirSync(whole))
          assert.ok(readFileSync(join(other, name)).equals(readFileSync(join(whole, name))), name);
      weights.free();
    });

  test("a point takes the slot of one that has ended, while others go on; points are taken in their order", async () => {
    const { backend } = await webgpuBackend();
    const model = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, model);
    const chat = await loadChat(model, await loadTokenizer(model));
    // Two slots and room for the conversations of both; answers of very different lengths. One scorer waits.
    const own = settingsOf({
      ...small,
      ...{ "landscape.pointsAtOnce": 2, "landscape.maxNewTokens": 24, "batch.rows": 12 },
    });
    const task = await openEnvironment(own.environment);
    const environment: Environment = {
      name: "later",
      *episodes(seed) {
        for (const episode of task.episodes(seed))
          yield {
            ...episode,
            score: (completions: readonly string[]) =>
              episode.index % 2 === 0
                ? new Promise((done) => setTimeout(() => done(completions.join("").length), 3))
                : completions.join("").length,
          };
      },
    };
    const folders: string[] = [];
    for (const [refill, tokens] of [
      ["on", own.batch.tokens],
      ["off", own.batch.tokens],
      ["on", 50], // completions do not fit beside rollouts, and are read in parts
    ] as const) {
      const phases: string[] = [];
      const context: SweepContext = {
        model: { backend, config, weights },
        ...{ chat, environment },
        settings: { ...own, landscape: { ...own.landscape, refill }, batch: { ...own.batch, tokens } },
        place: { step: 0, trajectory: [], state: "", folderOf: () => model },
        signal: new AbortController().signal,
        say: (line) => {
          throw new Error(line);
        },
        onTiming: ({ phase, seconds }) => {
          phases.push(phase);
          assert.ok(seconds >= 0);
        },
      };
      const folder = join(place, `slots-${refill}-${tokens}`);
      const reference = await prepareReference(context, watched().phase);
      await sweep(context, 0, folder, reference, watched().phase, 0);
      folders.push(folder);
      const times = phases.filter((phase) => phase === (refill === "on" ? "points" : "scoring")).length;
      if (refill === "off") assert.is(times, 5, "nine points, two at a time");
      else assert.ok(times > 5, `points ended at ${times} different moments`);
    }
    for (const other of folders.slice(1))
      for (const name of readdirSync(folders[0]))
        assert.ok(readFileSync(join(folders[0], name)).equals(readFileSync(join(other, name))), `${other}: ${name}`);
    weights.free();
  });

  test("a stop right after the pass in which a point ended keeps that point", async () => {
    const { backend } = await webgpuBackend();
    const model = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, model);
    const chat = await loadChat(model, await loadTokenizer(model));
    const own = settingsOf({ ...small, "landscape.pointsAtOnce": 1 });
    const environment = await openEnvironment(own.environment);
    const controller = new AbortController();
    const context: SweepContext = {
      ...{ model: { backend, config, weights }, chat, environment, settings: own },
      place: { step: 0, trajectory: [], state: "", folderOf: () => model },
      signal: controller.signal,
      say: () => {},
    };
    const reference = await prepareReference(context, watched().phase);
    const { phase, notes } = watched(() => {
      if (/^rollouts 6\/6,/.test(notes.at(-1) ?? "")) controller.abort();
    });
    const folder = join(place, "ended");
    try {
      await sweep(context, 0, folder, reference, phase, 0);
      throw new Error("the sweep was not stopped");
    } catch (thrown) {
      if (thrown !== controller.signal.reason) throw thrown;
    }
    assert.is(readFileSync(slicePaths(folder).cells, "utf8").split("\n").length - 1, 1);
    weights.free();
  });

  test("the file of rollouts under way is written anew when most of it belongs to points that are done", () => {
    const path = join(place, "shrinks.jsonl");
    const open = (): UnderWay => new UnderWay(path, 8, 0, console.error);
    const underWay = open();
    const measured = { reward: 1, tokens: 1, entropy: 0, isTruncated: false, formatFailed: false, conversation: null };
    const fill = (i: number): void => {
      for (let index = 0; index < 400; index++)
        underWay.add({ i, j: 0, prompt: index >> 3, rollout: index & 7 }, { ...measured, entropy: index });
      underWay.write();
    };
    for (const i of [0, 1, 2, 3, 4]) fill(i);
    const most = readFileSync(path).length;
    for (const i of [0, 1, 2]) underWay.drop({ i, j: 0 });
    assert.is(readFileSync(path).length, most, "800 under way, 1,200 done: the file stays");
    underWay.drop({ i: 3, j: 0 });
    assert.ok(readFileSync(path).length < most / 4);
    fill(5);
    underWay.close();
    const back = open();
    assert.is(back.length, 800);
    assert.is(back.find({ i: 4, j: 0, prompt: 7, rollout: 5 })?.entropy, 61);
    back.drop({ i: 4, j: 0 });
    back.drop({ i: 5, j: 0 });
    assert.not.ok(existsSync(path));
    assert.equal(
      readdirSync(place).filter((name) => name.startsWith(".")),
      [],
    );
  });

  test("more rollouts at once than a call takes arguments", () => {
    const path = join(place, "many.jsonl");
    const many = new UnderWay(path, 150_000, Number.POSITIVE_INFINITY, console.error);
    const measured = { reward: 1, tokens: 1, entropy: 0, isTruncated: false, formatFailed: false, conversation: null };
    for (let rollout = 0; rollout < 150_000; rollout++) many.add({ i: 0, j: 0, prompt: 0, rollout }, measured);
    many.write();
    many.close();
    const back = new UnderWay(path, 150_000, 0, console.error);
    assert.is(back.length, 150_000);
    back.close();
  });

  test("finished rollouts come back to the same bits; a cut last line is told, damage before it refused", async () => {
    const path = join(place, "under-way.jsonl");
    const told: string[] = [];
    const open = (): UnderWay => new UnderWay(path, 8, 0, (line) => told.push(line));
    const measured = { reward: 1 / 3, tokens: 7, entropy: 0.1 + 0.2, isTruncated: false, formatFailed: true };
    const one = { ...measured, conversation: '{"episode":0,"text":"\u2028"}\n' };
    const first = open();
    first.add({ i: 0, j: 1, prompt: 2, rollout: 3 }, one);
    first.add({ i: 0, j: 1, prompt: 2, rollout: 4 }, { ...measured, conversation: null });
    first.close();
    const second = open();
    assert.equal(second.find({ i: 0, j: 1, prompt: 2, rollout: 3 }), one);
    assert.is(second.length, 2);
    assert.is(second.find({ i: 1, j: 0, prompt: 2, rollout: 3 }), undefined);
    second.close();
    const bytes = readFileSync(path);
    writeFileSync(path, bytes.subarray(0, -4));
    const third = open();
    assert.is(third.length, 1);
    assert.match(told[0], `${path}: line 2 is damaged (the line was cut)`);
    third.clear();
    assert.not.ok(existsSync(path));
    bytes[3] ^= 1;
    writeFileSync(path, bytes);
    await throwsMessage(open, `${path}: line 1 is damaged`, "Restore it from a copy");
  });
});

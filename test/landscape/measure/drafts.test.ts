// Drafts in a sweep: the same bytes with and without them, also when it is stopped and continued; most tokens are drafted;
// and which answers are kept and proposed.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Phase } from "../../../engine/host/index.ts";
import { DraftSource } from "../../../landscape/measure/drafts.ts";
import { hostMemoryOf } from "../../../landscape/measure/host-memory.ts";
import { sweep } from "../../../landscape/measure/sweep.ts";
import { prepareReference, type SweepContext, type SweepTiming } from "../../../landscape/measure/sweep-context.ts";
import { loadChat, loadModel, loadTokenizer } from "../../../model/index.ts";
import { type Answers, answersOf, openEnvironment, proposal } from "../../../rl/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { describe, fixturePath } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";

/** The checkpoint's completions are of one prompt and rollout less than a grid point's. */
const small = {
  "landscape.points": 3,
  "landscape.pointsAtOnce": 2,
  "landscape.maxNewTokens": 12,
  "landscape.reference.prompts": 2,
  "landscape.reference.rollouts": 2,
  "landscape.rollouts.prompts": 3,
  "landscape.rollouts.rollouts": 3,
  "landscape.conversations": 2,
  "batch.rows": 7,
};

/** A phase that calls `seen` with the number of times that it moved. */
function phaseThat(seen: (moves: number) => void): Phase {
  let moves = 0;
  const phase: Phase = { advance() {}, moveTo: () => seen(++moves), phase: () => phase, done() {} };
  return phase;
}

describe("landscape/measure/drafts", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-drafts-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("on, off, and on while stopped again and again: the same bytes, and most tokens need no decode step", async () => {
    const { backend } = await webgpuBackend();
    const model = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, model);
    const chat = await loadChat(model, await loadTokenizer(model));
    const never = new AbortController().signal;
    const run = async (
      folder: string,
      drafts: "on" | "off",
      signal = never,
      phase = phaseThat(() => {}),
    ): Promise<SweepTiming[]> => {
      const settings = settingsOf({ ...small, "landscape.drafts": drafts });
      const timings: SweepTiming[] = [];
      const context: SweepContext = {
        ...{ model: { backend, config, weights }, chat, settings, signal },
        environment: await openEnvironment(settings.environment),
        place: { step: 0, trajectory: [], state: "", folderOf: () => "" },
        say: () => {},
        onTiming: (record) => timings.push(record),
      };
      reference ??= await prepareReference(
        { ...context, signal: never },
        phaseThat(() => {}),
      );
      await sweep(context, 0, folder, reference, phase, 0);
      return timings.filter((record) => record.tokens !== undefined);
    };
    let reference: Awaited<ReturnType<typeof prepareReference>> | undefined;
    const sum = (timings: readonly SweepTiming[], of: "tokens" | "drafted" | "spared"): number =>
      timings.reduce((total, record) => total + (record[of] ?? Number.NaN), 0);

    const off = await run(join(place, "off"), "off");
    assert.is(sum(off, "drafted"), 0);
    const on = await run(join(place, "on"), "on");
    assert.is(sum(on, "tokens"), sum(off, "tokens"));
    // The first points are the centre and an edge; the checkpoint's own completions are 4 of the centre's 9 rollouts, to the bit.
    assert.ok(sum(on.slice(0, 1), "drafted") > 0.25 * sum(on.slice(0, 1), "tokens"), JSON.stringify(on[0]));
    assert.ok(sum(on.slice(1), "drafted") > 0.4 * sum(on.slice(1), "tokens"), JSON.stringify(on));
    assert.ok(sum(on.slice(1), "spared") > 0.3 * sum(on.slice(1), "tokens"), JSON.stringify(on));

    let stops = 0;
    for (let finished = false; !finished; ) {
      const controller = new AbortController();
      const phase = phaseThat((moves) => {
        if (moves === 45) controller.abort();
      });
      try {
        await run(join(place, "stopped"), "on", controller.signal, phase);
        finished = true;
      } catch (thrown) {
        if (thrown !== controller.signal.reason) throw thrown;
        stops++;
      }
      assert.ok(stops < 100, "every attempt gets further");
    }
    assert.ok(stops > 1);
    const names = readdirSync(join(place, "off")).sort();
    for (const other of ["on", "stopped"]) {
      assert.equal(readdirSync(join(place, other)).sort(), names);
      for (const name of names)
        assert.ok(
          readFileSync(join(place, other, name)).equals(readFileSync(join(place, "off", name))),
          `${other}: ${name}`,
        );
    }
    // The centre's rollouts are the checkpoint's own; its completions are of two prompts with two rollouts.
    const cells = readFileSync(join(place, "on", "cells.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line): { firstDifference: number[][]; rollouts: { tokens: number[][] } } => JSON.parse(line));
    assert.equal(cells[0].firstDifference, [
      [-1, -1],
      [-1, -1],
    ]);
    const corners = cells.slice(-2);
    for (const { firstDifference, rollouts } of corners)
      for (const [p, of] of firstDifference.entries())
        for (const [g, place] of of.entries()) assert.ok(place >= -1 && place < rollouts.tokens[p][g]);
    assert.ok(corners.some(({ firstDifference }) => firstDifference.flat().some((place) => place >= 0)));
    weights.free();
  });

  test("answers are the runs of assistant tokens", () => {
    assert.equal(answersOf({ ids: [1, 2, 3, 4, 5, 6], mask: [0, 1, 1, 0, 0, 1] }), [[2, 3], [6]]);
    assert.equal(answersOf({ ids: [1], mask: [0] }), []);
  });

  test("a proposal: who said the same, else who began this answer so, else the place after the same two tokens", () => {
    const others: Answers[] = [
      [
        [1, 2, 3],
        [4, 5, 6, 7],
      ],
      [
        [1, 2, 9],
        [4, 5, 8],
      ],
    ];
    assert.equal(proposal(others, [], []), [1, 2, 3]);
    assert.equal(proposal(others, [], [1, 2]), [3]);
    assert.equal(proposal(others, [[1, 2, 9]], [4]), [5, 8]);
    assert.equal(proposal(others, [[1, 2, 3]], [4]), [5, 6, 7]);
    assert.equal(proposal(others, [[0]], [4]), [5, 6, 7]);
    assert.equal(proposal(others, [[0]], [4, 5, 8]), null); // nobody goes on after this
    assert.equal(proposal(others, [[0]], [0, 4, 5]), [6, 7]); // two tokens, one place earlier
    assert.equal(proposal(others, [[0]], [0, 0, 5]), null); // one token is not enough
    assert.equal(proposal(others, [[0], [0]], []), null); // nobody has a third answer
    const long = [Array.from({ length: 40 }, (_, i) => i)];
    assert.equal(proposal([long], [], [9, 3, 4]), [5, 6, 7, 8, 9, 10, 11, 12]); // no more than eight
  });

  test("drafts come from the nearest finished points, then from the checkpoint", () => {
    const source = new DraftSource((prompt, rollout) => (prompt === 0 && rollout === 0 ? [[100]] : null), 2);
    const key = (i: number, j: number, prompt = 0, rollout = 0) => ({ i, j, prompt, rollout });
    const first = (i: number, j: number, prompt = 0, rollout = 0) =>
      source.draftOf(source.nearest({ i, j }), key(i, j, prompt, rollout))?.([], []);
    assert.equal(first(0, 0), [100]);
    assert.is(first(0, 0, 0, 1), undefined);
    source.add(key(0, 0), [[1, 2], [3]]);
    source.add(key(0, 5), [[7]]);
    source.add(key(0, 5, 1, 1), [[], [8]]);
    assert.equal(first(0, 1), [100], "points under way are no source");
    source.finish([]);
    assert.equal(first(0, 1), [1, 2]);
    assert.equal(first(0, 4), [7]);
    assert.is(first(0, 1, 1, 1), null, "the only answer is empty");
    assert.is(first(0, 1, 1, 0), undefined);
    assert.equal(source.draftOf(source.nearest({ i: 0, j: 0 }), key(0, 0))?.([[1, 2]], []), [3]);
  });

  test("of equally near points the first finished comes first; where nobody near goes on as the answer does, one further away does", () => {
    const source = new DraftSource(() => null, 1);
    const key = (i: number, j: number) => ({ i, j, prompt: 0, rollout: 0 });
    const say = (i: number, j: number, ids: number[]): void => {
      source.add(key(i, j), [ids]);
      source.finish([], key(i, j));
    };
    say(0, 9, [1, 9, 9]);
    for (let far = 8; far > 1; far--) say(far, 0, [1, far, far]);
    say(0, 1, [1, 100]);
    say(1, 0, [1, 200]);
    const draft = source.draftOf(source.nearest({ i: 0, j: 0 }), key(0, 0));
    assert.equal(draft?.([], []), [1, 100]);
    assert.equal(draft?.([], [1, 2]), [2]);
    assert.equal(draft?.([], [1, 9]), [9], "the tenth in distance");
  });

  test("memory is bounded: answers that the most remaining points are near to are kept, and no more are added when it is full", () => {
    const most = 64 * 1024;
    const source = new DraftSource(() => null, 1, most);
    const answers: Answers = [Array.from({ length: 1500 }, () => 1)]; // 6 KiB
    for (let i = 0; i < 40; i++) source.add({ i, j: 0, prompt: 0, rollout: 0 }, answers);
    assert.ok(source.bytes >= most && source.bytes < most + 8 * 1024, `${source.bytes} bytes`);
    source.finish([
      { i: 3, j: 1 },
      { i: 3, j: 0 },
    ]);
    assert.ok(source.bytes > 0 && source.bytes <= most / 2);
    const kept = source.nearest({ i: 3, j: 0 }).map(({ i }) => i);
    assert.ok(kept.includes(3) && kept.every((i) => i >= 1 && i <= 5), kept.join());
    source.add({ i: 30, j: 0, prompt: 0, rollout: 0 }, answers);
    source.finish([{ i: 30, j: 1 }]);
    assert.is(source.nearest({ i: 30, j: 0 }).at(0)?.i, 30);
    source.finish([]);
    assert.ok(source.bytes <= most / 2);
  });

  test("the plan of host memory counts the answers, up to the bound", () => {
    const set = {
      ...{ prompts: 2, expectedTokens: { largest: 60, sum: 100 }, promptTokens: 40, longest: [], first: [] },
    };
    const outside = (values: Readonly<Record<string, number | string>>): number =>
      hostMemoryOf(settingsOf(values), { reference: set, rollouts: set }, 64).outside;
    assert.is(outside(small) - outside({ ...small, "landscape.drafts": "off" }), (8 + 4 * 50) * 9 * 3 * 3);
    const large = { ...small, "landscape.rollouts.prompts": 200_000 };
    assert.is(outside(large) - outside({ ...large, "landscape.drafts": "off" }), 256 * 2 ** 20);
  });
});

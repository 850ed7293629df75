import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { firstDifference, firstDifferences, neverDiffers } from "../../../landscape/measure/first-difference.ts";
import { type MeasuredRollout, UnderWay } from "../../../landscape/measure/under-way.ts";
import { describe } from "../../support.ts";

describe("landscape/measure/first-difference", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-first-difference-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("counts the tokens of all turns before the first that differs", () => {
    const checkpoint = [
      [5, 6, 2],
      [7, 8, 9, 2],
    ];
    assert.is(firstDifference(checkpoint, structuredClone(checkpoint)), neverDiffers);
    assert.is(firstDifference([[4, 6, 2], []], checkpoint), 0);
    assert.is(firstDifference([[5, 6, 6, 2], []], checkpoint), 2);
    const later = [checkpoint[0], [7, 8, 1, 2]];
    assert.is(firstDifference(later, checkpoint), 5);
    assert.is(firstDifference(checkpoint, later), 5);
    // An answer that was cut off, or a turn that was not played, ends where the other goes on.
    assert.is(firstDifference([[5, 6]], checkpoint), 2);
    assert.is(firstDifference(checkpoint.slice(0, 1), checkpoint), 3);
    assert.is(firstDifference([...checkpoint, [1]], checkpoint), 7);
  });

  test("a record has the places of the prompts and rollouts that the checkpoint has too, or none", () => {
    const at = (firstDifference?: number) => ({ ...(firstDifference !== undefined && { firstDifference }) });
    const byPrompt = [
      [at(3), at(-1), at()],
      [at(0), at(7), at()],
      [at(), at(), at()],
    ];
    assert.equal(firstDifferences(byPrompt, { prompts: 2, rolloutsPerPrompt: 2 }), {
      firstDifference: [
        [3, -1],
        [0, 7],
      ],
    });
    // One rollout was measured by a version that kept no place.
    assert.equal(firstDifferences([[at(3), at()]], { prompts: 1, rolloutsPerPrompt: 2 }), {});
  });

  test("rollouts under way keep the place over a restart, and its absence", () => {
    const path = join(place, "under-way.jsonl");
    const key = { i: 0, j: 1, prompt: 0 };
    const plain: MeasuredRollout = {
      reward: 0.5,
      tokens: 12,
      entropy: 1.5,
      isTruncated: false,
      formatFailed: null,
      conversation: null,
    };
    const measured = [{ ...plain, firstDifference: -1 }, { ...plain, firstDifference: 11 }, plain];
    const first = new UnderWay(path, 3, 0, assert.unreachable);
    for (const [rollout, of] of measured.entries()) first.add({ ...key, rollout }, of);
    first.write();
    first.close();
    const second = new UnderWay(path, 3, 0, assert.unreachable);
    for (const [rollout, of] of measured.entries()) assert.equal(second.find({ ...key, rollout }), of);
    second.close();
  });
});

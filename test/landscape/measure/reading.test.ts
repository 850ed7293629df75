// The checkpoint's completions as texts that are read at every point. That their scores have the bits of passes of their own is
// tested where refilled slots are compared with batches (interrupted-sweep.test.ts).
import assert from "node:assert/strict";
import { ReferenceReader } from "../../../landscape/measure/reading.ts";
import type { Reference } from "../../../landscape/measure/reference.ts";
import { distinctAnswers, loadModel, type Sequence } from "../../../model/index.ts";
import { webgpuBackend } from "../../backends.ts";
import { describe, fixturePath } from "../../support.ts";

/** Two turns: a prompt, an answer and its end, a user turn, an answer and its end. */
const sequence = (prompt: readonly number[], answers: readonly (readonly number[])[]): Sequence => {
  const ids = [...prompt, ...answers[0], 20, 21, ...answers[1]];
  const mask = [...prompt.map(() => 0), ...answers[0].map(() => 1), ...[0, 0], ...answers[1].map(() => 1)];
  return { ids, mask };
};

describe("landscape/measure/reading", (test) => {
  test("a completion is read up to its last scored token, and pauses where a conversation waits for its next turn", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const sequences = [
      sequence(
        [1, 2, 3],
        [
          [4, 5, 9],
          [6, 9],
        ],
      ),
      sequence([1, 2, 3], [[9], [6, 7, 8, 9]]),
      sequence([1, 4], [[5, 9], [9]]),
      sequence([1, 4], [[6, 9], [9]]),
    ];
    const parts = [sequences.slice(0, 3), sequences.slice(3)].map((own) => {
      const answers = distinctAnswers(config, own);
      const numbers = new Float32Array(answers.targets.length * config.hiddenSize);
      return { sequences: own, answers, hidden: numbers, logSumExp: numbers, logProbs: numbers };
    });
    const reference = {
      ...{ parts, prompts: 2, rolloutsPerPrompt: 2, rollouts: [], advantages: [1, -1, 0, 0] },
      set: { tokens: [], reward: [], advantage: [] },
    } as unknown as Reference;
    const model = { backend, config, weights };
    const settings = { maxTokens: 100, clipLow: 0.2, clipHigh: 0.2 };
    const textsOf = (reader: ReferenceReader, prompt: number) => {
      const { count, textsOf } = reader.begin(5);
      return { count, texts: [...textsOf(prompt)] };
    };
    const reader = new ReferenceReader(model, model, reference, settings);
    assert.deepEqual(textsOf(reader, 0), {
      count: 4,
      texts: [
        // The states before 4, 5 and 9, and before 6 and 9; it pauses before the first 9.
        { policy: 5, prompt: [1, 2, 3], ids: [4, 5, 9, 20, 21, 6, 9], wanted: [0, 1, 2, 5, 6], pauses: [2] },
        { policy: 5, prompt: [1, 2, 3], ids: [9, 20, 21, 6, 7, 8, 9], wanted: [0, 3, 4, 5, 6], pauses: [0] },
      ],
    });
    assert.deepEqual(textsOf(reader, 1).texts, [
      { policy: 5, prompt: [1, 4], ids: [5, 9, 20, 21, 9], wanted: [0, 1, 4], pauses: [1] },
      { policy: 5, prompt: [1, 4], ids: [6, 9, 20, 21, 9], wanted: [0, 1, 4], pauses: [1] },
    ]);
    assert.throws(() => reader.end(5), /completions of point 5 were not read/);

    const numbers = [[0, 0]];
    const known = { kl: numbers, k1: numbers, k3: numbers, objective: numbers, entropy: numbers };
    const grown = new ReferenceReader(model, model, reference, { ...settings, known: () => known });
    assert.deepEqual(textsOf(grown, 0), { count: 2, texts: [] });
    assert.equal(textsOf(grown, 1).texts.length, 2);
    weights.free();
  });
});

// Drafts change no bit: answers, log-probabilities and entropies are those of plain decoding, whatever is proposed. Good
// drafts need fewer passes.
import * as assert from "uvu/assert";
import { tokenKey, type Warping } from "../../engine/index.ts";
import { draftFor, seenAlong } from "../../model/drafts.ts";
import { type Dialogue, type GenerateSettings, generate, loadModel, type Model } from "../../model/index.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

const settings: GenerateSettings = {
  maxNewTokens: 9,
  temperature: 1,
  noiseKey: tokenKey(1, "test", 0),
  stopIds: Array.from({ length: 40 }, (_, i) => 9 * i), // most answers end early, some are cut off
  maxRows: 5,
  maxTokens: 300,
};

type Answers = number[][];
/** The draft of a dialogue's answer to a turn, given what was said in the undisturbed run. */
type Source = (said: Answers, dialogue: number, turn: number, answer: readonly number[]) => readonly number[] | null;

interface Talk {
  heard: string[];
  answers: Answers[];
  passes: number;
  /** Computed. */
  tokens: number;
  sampled: number;
  drafted: number;
  spared: number;
}

/** Dialogues of three turns, whose prompts are shared by pairs. */
async function talk(
  model: Model,
  other: Partial<GenerateSettings>,
  { count = 12, expectedTokens = 40 },
  plain: Talk | null = null,
  source: Source | null = null,
): Promise<Talk> {
  const result: Talk = { heard: [], answers: [], passes: 0, tokens: 0, sampled: 0, drafted: 0, spared: 0 };
  const dialogues = Array.from({ length: count }, (_, k): Dialogue => {
    result.heard[k] = "";
    result.answers[k] = [];
    return {
      policy: 0,
      prompt: Array.from({ length: 3 + (k >> 1) }, (__, i) => (7 * (k >> 1) + 31 * i) % 300),
      noise: { rollout: k, prompt: 7 },
      expectedTokens,
      answered: (answer) => {
        result.heard[k] += `${JSON.stringify(answer)}\n`;
        result.answers[k].push([...answer.ids]);
        return answer.turn === 2 ? null : Array.from({ length: 1 + (k % 3) }, (__, i) => 11 * k + i);
      },
      sampled: (id) => {
        result.heard[k] += `${id} `;
      },
      draft: source === null ? undefined : (turn, answer) => source(plain?.answers[k] ?? [], k, turn, answer),
    };
  });
  await generate(model, dialogues, {
    ...settings,
    ...other,
    onPass: ({ tokens, sampled, drafted, spared }) => {
      result.passes++;
      result.tokens += tokens;
      result.sampled += sampled;
      result.drafted += drafted;
      result.spared += spared;
    },
  });
  return result;
}

const rest = (said: readonly number[], answer: readonly number[]): number[] => said.slice(answer.length);

const sources: Readonly<Record<string, Source>> = {
  "what was said": (said, _, turn, answer) => rest(said[turn], answer),
  "one token of each answer otherwise": (said, dialogue, turn, answer) =>
    rest(said[turn], answer).map((id, i) => (i + answer.length === (dialogue + turn) % 5 ? id + 1 : id)),
  "another answer": (said, _, turn, answer) => rest(said[(turn + 1) % 3], answer),
  "two tokens at a time": (said, _, turn, answer) => rest(said[turn], answer).slice(0, 2),
  "a draft that goes on after the end": (said, _, turn, answer) => [...rest(said[turn], answer), 5, 6, 7, 8, 9, 10, 11],
  "ids that no vocabulary has": (said, _, turn, answer) => [...rest(said[turn], answer).slice(0, 1), -1, 1e9, 0.5],
  "drafts for some": (said, dialogue, turn, answer) =>
    dialogue % 3 === 0 ? null : dialogue % 3 === 1 ? [] : rest(said[turn], answer),
};

async function expectSame(
  what: string,
  model: Model,
  other: Partial<GenerateSettings>,
  sizes: { count?: number; expectedTokens?: number } = {},
): Promise<void> {
  const plain = await talk(model, other, sizes);
  const lengths = new Set(plain.answers.flat().map(({ length }) => length));
  if (lengths.size < 2) throw new Error(`${what}: answers of one length only`);
  assert.is(plain.spared + plain.drafted, 0);
  for (const [name, source] of Object.entries(sources)) {
    const drafted = await talk(model, other, sizes, plain, source);
    assert.equal(drafted.heard, plain.heard, `${what}: ${name}`);
    assert.is(drafted.sampled, plain.sampled, `${what}: ${name}: tokens that count`);
  }
}

const none: Warping = { topK: 0, topP: 1, repetitionPenalty: 1 };

describe("model/drafts", (test) => {
  test("on and off: the same bits on every backend, with refills, turns, cut-off answers and shared prompts", async () => {
    for (const { name, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const count = name.includes("segments") || backend.kind === "cpu" ? 4 : 12;
      const maxRows = backend.kind === "cpu" ? 2 : 5;
      await expectSame(name, { backend, config, weights }, { maxRows }, { count });
      weights.free();
    }
  });

  for (const [name, other] of Object.entries<Partial<GenerateSettings>>({
    "temperature 0.7": { temperature: 0.7 },
    greedy: { temperature: 0 },
    "top-k": { warping: { ...none, topK: 20 } },
    "top-p": { temperature: 0.7, warping: { ...none, topP: 0.8 } },
    "a repetition penalty": { warping: { ...none, repetitionPenalty: 1.3 } },
    "a repetition penalty, greedy, many rows": {
      temperature: 0,
      maxRows: 40,
      warping: { ...none, repetitionPenalty: 1.3 },
    },
    "several steps per read": { stepsPerRead: 4 },
    "passes of few tokens": { maxTokens: 12 },
    "no stop ids": { stopIds: [] },
  }))
    test(`${name}: likewise`, async () => {
      const { backend } = await webgpuBackend();
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const model = { backend, config, weights };
      if (other.stopIds === undefined) await expectSame(name, model, other);
      else {
        const plain = await talk(model, other, {});
        for (const [what, source] of Object.entries(sources))
          assert.equal((await talk(model, other, {}, plain, source)).heard, plain.heard, what);
      }
      weights.free();
    });

  test("rows that have too few slots of the cache, outgrow them and are preempted: likewise", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    for (const expectedTokens of [3, 11, 17])
      await expectSame(`${expectedTokens} slots`, { backend, config, weights }, {}, { expectedTokens });
    weights.free();
  });

  test("what was said before costs a pass per turn; every token counts as drafted, all but one per answer as spared", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const other = { maxRows: 12 };
    const plain = await talk(model, other, {});
    const drafted = await talk(model, other, {}, plain, sources["what was said"]);
    assert.equal(drafted.heard, plain.heard);
    assert.is(drafted.passes, 3);
    if (plain.passes < 15) throw new Error(`plain decoding took ${plain.passes} passes only`);
    assert.is(drafted.tokens, plain.tokens, "nothing is computed twice");
    assert.is(drafted.drafted, drafted.sampled);
    assert.is(drafted.spared, drafted.sampled - 3 * 12);
    weights.free();
  });

  test("a difference ends the use of a draft: with one wrong token per answer, two passes per turn", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const other = { maxRows: 12, stopIds: [] };
    const plain = await talk(model, other, {});
    const wrongAt = 4;
    const source: Source = (said, _, turn, answer) =>
      rest(said[turn], answer).map((id, i) => (i + answer.length === wrongAt ? (id + 1) % 300 : id));
    const drafted = await talk(model, other, {}, plain, source);
    assert.equal(drafted.heard, plain.heard);
    assert.is(drafted.passes, 2 * 3);
    assert.is(drafted.sampled, 12 * 3 * 9);
    assert.is(drafted.drafted, 12 * 3 * 8);
    weights.free();
  });

  test("weights that give no numbers are refused", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const norm = weights.value("model.norm.weight");
    norm.write((await norm.read()).fill(Number.NaN));
    weights.valuesChanged();
    await throwsMessage(
      () => talk({ backend, config, weights }, {}, {}, null, () => [1, 2, 3]),
      "logits are not numbers",
    );
    weights.free();
  });

  test("a draft is computed up to its end token, the answer's length, the row's slots and the pass's room", () => {
    const row = (ids: readonly number[], slots = 100) => ({
      dialogue: { draft: () => ids },
      turn: 0,
      answer: { ids: [1, 2] },
      tokens: [0, 1, 2],
      own: { length: slots },
    });
    const limits = { stopIds: [7], maxNewTokens: 8 };
    const computed = (ids: readonly number[], slots?: number, room = 50): number =>
      draftFor(row(ids, slots), limits, 10, room).computed;
    assert.is(computed([3, 4, 5]), 3);
    assert.is(computed([3, 4, 7, 5]), 2);
    assert.is(computed([3, 3, 3, 3, 3, 3, 3, 3]), 5); // with the sample after it, 6: eight tokens of the answer
    assert.is(computed([3, 4, 5], 5), 2);
    assert.is(computed([3, 4, 5], 100, 1), 1);
    assert.is(computed([3, 4, 5], 100, -1), 0);
    assert.is(computed([3, 10, 5]), 1);
    assert.equal(draftFor({ ...row([]), dialogue: {} }, limits, 10, 50), { ids: [], computed: 0 });
  });

  test("each sample's set of seen ids has the draft's tokens before it", () => {
    const into = new Uint32Array(8).fill(99);
    seenAlong(Uint32Array.of(1, 0), { ids: [33, 2, 9], computed: 2 }, into);
    assert.equal([...into], [1, 0, 1, 2, 5, 2, 99, 99]);
  });
});

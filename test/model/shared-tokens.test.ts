// Tokens that dialogues have in common are computed once. It changes no bit: answers, log-probabilities and entropies are those of
// dialogues that share nothing.
import assert from "node:assert/strict";
import {
  fromArray,
  gatherRows,
  head,
  type NumberArray,
  type RowGroup,
  readTensors,
  SlotWeights,
  scopeAsync,
  tokenKey,
} from "../../engine/index.ts";
import {
  type Answer,
  answerStates,
  type Dialogue,
  type GenerateSettings,
  generate,
  headWeight,
  loadForInference,
  loadModel,
  type Model,
  type ReadStates,
  type Sequence,
  type StatesUse,
  type Text,
} from "../../model/index.ts";
import { PassTokens, type Row } from "../../model/pass-tokens.ts";
import { testBackends, webgpuBackend } from "../backends.ts";
import { sameBits } from "../engine/check-op.ts";
import { describe, fixturePath } from "../support.ts";
import { along, pointWeightsOf } from "./point-weights.ts";

const settings: GenerateSettings = {
  maxNewTokens: 7,
  temperature: 0.1, // random weights: at this temperature rollouts of one prompt say the same for a while
  noiseKey: tokenKey(1, "test", 0),
  stopIds: Array.from({ length: 60 }, (_, i) => 5 * i + 2), // some answers end early
  maxRows: 40,
  maxTokens: 1000,
};

interface Sizes {
  prompts?: number;
  rollouts?: number;
  policies?: number;
  expectedTokens?: number;
  /** Every n-th dialogue gets its next turn late. */
  lateEvery?: number;
  /** Read beside the dialogues; those of a prompt before its dialogues. */
  texts?: readonly Text[];
  /** What was said, for drafts. */
  said?: readonly number[][][] | null;
}

interface Talk {
  readonly heard: string[];
  readonly answers: number[][][];
  /** All tokens of each dialogue, with the policy before them. */
  readonly texts: number[][];
  tokens: number;
  sampled: number;
  passes: number;
}

/** Dialogues of two turns. Prompts begin alike. */
async function talk(
  model: Model,
  other: Partial<GenerateSettings>,
  { prompts = 3, rollouts = 6, policies = 1, expectedTokens = 30, lateEvery = 0, texts = [], said = null }: Sizes,
): Promise<Talk> {
  const talk: Talk = { heard: [], answers: [], texts: [], tokens: 0, sampled: 0, passes: 0 };
  const dialogues: (Dialogue | Text)[] = [];
  for (let k = 0; k < prompts * rollouts * policies; k++) {
    const [prompt, policy] = [Math.floor(k / rollouts) % prompts, Math.floor(k / rollouts / prompts)];
    const ids = [41, 7, 199, 3, ...Array.from({ length: prompt }, (_, i) => 50 + 20 * prompt + i)];
    talk.heard[k] = "";
    talk.answers[k] = [];
    talk.texts[k] = [policy, ...ids];
    if (k % rollouts === 0) dialogues.push(...texts.slice(k, k + rollouts));
    dialogues.push({
      policy,
      prompt: ids,
      noise: { rollout: k % rollouts, prompt },
      expectedTokens,
      answered: (answer: Answer) => {
        talk.heard[k] += `${JSON.stringify(answer)}\n`;
        talk.answers[k].push([...answer.ids]);
        talk.texts[k].push(...answer.ids);
        if (answer.turn === 1) return null;
        // The next turn depends on what was said, as an environment's may.
        const next = [11, 12, answer.ids.length % 3, 13];
        talk.texts[k].push(...next);
        if (lateEvery === 0 || k % lateEvery > 0) return next;
        return new Promise((done) => setTimeout(() => done(next), 5 * (k % 4)));
      },
      draft: said === null ? undefined : (turn, answer) => said[k][turn]?.slice(answer.length) ?? null,
    });
  }
  await generate(model, dialogues, {
    ...settings,
    ...other,
    onPass: ({ tokens, sampled }) => {
      talk.tokens += tokens;
      talk.sampled += sampled;
      if (tokens > 0) talk.passes++;
    },
  });
  return talk;
}

/** How many different beginnings the texts have: the least that can be computed. The last token of a text is not. */
function distinct(texts: readonly (readonly number[])[]): number {
  const beginnings = new Set<string>();
  for (const [policy, ...ids] of texts)
    for (let length = 1; length < ids.length; length++) beginnings.add(`${policy}: ${ids.slice(0, length).join()}`);
  return beginnings.size;
}

async function expectSame(
  what: string,
  model: Model,
  other: Partial<GenerateSettings> = {},
  sizes: Sizes = {},
): Promise<{ apart: Talk; shared: Talk }> {
  const apart = await talk(model, { ...other, sharesTokens: "none" }, sizes);
  const shared = await talk(model, other, sizes);
  assert.deepEqual(shared.heard, apart.heard, what);
  assert.equal(shared.sampled, apart.sampled, what);
  return { apart, shared };
}

/** Scores of sequences under one of the points, one after another. */
async function scoresAt(model: Model, sequences: readonly Sequence[], policy: number) {
  const found: { logProbs: NumberArray; entropy: NumberArray }[] = [];
  for (const sequence of sequences) {
    const [logProbs, entropy] = await scopeAsync(async () => {
      const { hidden, targets, rows } = answerStates(model, [sequence], policy);
      const weight = headWeight(model.config, model.weights);
      const scored = head(hidden, weight, targets, { temperature: 1 }, rows);
      return readTensors([scored.logProbs, scored.entropy]);
    });
    found.push({ logProbs, entropy });
  }
  return found;
}

const none = { topK: 0, topP: 1, repetitionPenalty: 1 };

describe("model/shared-tokens", (test) => {
  test("the same bits on every backend, and no token is computed twice", async () => {
    for (const { name, backend } of await testBackends()) {
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const isSlow = name.includes("segments") || backend.kind === "cpu";
      const sizes = isSlow ? { prompts: 2, rollouts: 3 } : {};
      const { apart, shared } = await expectSame(name, { backend, config, weights }, {}, sizes);
      weights.free();
      if (name.includes("segments")) continue; // a cache that is cut cannot copy between its parts
      assert.equal(shared.tokens, distinct(shared.texts), name);
      assert.ok(shared.tokens < 0.75 * apart.tokens, `${name}: ${shared.tokens} of ${apart.tokens} tokens`);
      if (!isSlow) assert.ok(new Set(shared.heard).size > 8, `${name}: rollouts part`);
    }
  });

  for (const [name, other, sizes = {}] of [
    ["greedy: rollouts never part", { temperature: 0 }],
    ["temperature 1: rollouts part at once", { temperature: 1 }],
    ["top-k", { temperature: 0.2, warping: { ...none, topK: 20 } }],
    ["top-p", { temperature: 0.2, warping: { ...none, topP: 0.8 } }],
    ["late turns", {}, { lateEvery: 3 }],
    ["no stop ids", { stopIds: [] }],
  ] as [string, Partial<GenerateSettings>, Sizes?][])
    test(`${name}: likewise`, async () => {
      const { backend } = await webgpuBackend();
      const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
      const { shared } = await expectSame(name, { backend, config, weights }, other, sizes);
      if (sizes.lateEvery === undefined) assert.equal(shared.tokens, distinct(shared.texts));
      weights.free();
    });

  test("refills, passes of few tokens, too few slots, several steps per read, a penalty: the same bits", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    for (const [other, sizes = {}] of [
      [{ maxRows: 5 }],
      [{ maxTokens: 9 }],
      [{ maxTokens: 30, maxRows: 11 }, { lateEvery: 2 }],
      [{}, { expectedTokens: 3 }],
      [{ maxRows: 7 }, { expectedTokens: 11 }],
      [{ stepsPerRead: 4 }],
      [{ temperature: 0.3, warping: { ...none, repetitionPenalty: 1.3 } }],
    ] as [Partial<GenerateSettings>, Sizes?][])
      await expectSame(JSON.stringify([other, sizes]), model, other, sizes);
    weights.free();
  });

  test("drafts, right and wrong: the same bits; what was said is computed once", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const plain = await talk(model, {}, {});
    const drafted = await expectSame("what was said", model, {}, { said: plain.answers });
    assert.deepEqual(drafted.shared.heard, plain.heard);
    assert.equal(drafted.shared.passes, 2);
    assert.equal(drafted.shared.tokens, plain.tokens);
    const wrong = plain.answers.map((answers, k) =>
      answers.map((ids) => ids.map((id, i) => (i === k % 4 ? (id + 1) % 300 : id))),
    );
    for (const other of [{}, { maxRows: 5 }, { maxTokens: 20 }, { temperature: 0.5 }, { stepsPerRead: 4 }])
      await expectSame(`wrong, ${JSON.stringify(other)}`, model, other, { said: wrong });
    weights.free();
  });

  test("weights in f16, keys and values too: the same bits", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadForInference(backend, fixturePath("qwen2-tiny"), "f16");
    const { shared } = await expectSame("f16", { backend, config, weights });
    assert.equal(shared.tokens, distinct(shared.texts));
    weights.free();
  });

  test("several points share nothing between each other, in slots and made a tile at a time: the same bits", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights: arena } = await loadModel(backend, fixturePath("qwen2-tiny"));
    for (const [name, make] of Object.entries(pointWeightsOf(arena))) {
      const weights = make();
      weights.placeAlong([0.02, -0.02, 0].map(along));
      const { shared } = await expectSame(name, { backend, config, weights }, {}, { policies: 3, rollouts: 4 });
      assert.equal(shared.tokens, distinct(shared.texts), name);
      weights.free();
    }
    arena.free();
  });

  test("texts that are read beside dialogues: the scorer's bits, and what dialogues have said is not computed again", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights: arena } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const weights = new SlotWeights(arena, 2);
    weights.placeAlong([0.02, -0.02].map(along));
    const model = { backend, config, weights };
    const plain = await talk(model, {}, { policies: 2 });
    /** Each dialogue's prompt and the tokens after it; in some texts one token is another. */
    const textOf = (k: number): Text => {
      const [policy, ...all] = plain.texts[k];
      const length = 4 + (Math.floor(k / 6) % 3);
      const ids = all.slice(length).map((id, i) => (k % 5 === 1 && i === 3 ? (id + 1) % 300 : id));
      // As a dialogue pauses: before the last token of its first answer.
      const pauses = k % 5 === 2 ? [] : [plain.answers[k][0].length - 1];
      const wanted = ids.flatMap((_, i) => (i % 2 === 0 ? [i] : []));
      return { policy, prompt: all.slice(0, length), ids, wanted, pauses };
    };
    const texts = plain.texts.map((_, k) => textOf(k));
    for (const [other, sizes] of [
      [{}, {}],
      [{ maxRows: 5, maxTokens: 50 }, {}],
      [{}, { said: plain.answers }],
      [{ sharesTokens: "none" }, {}],
    ] as [Partial<GenerateSettings>, Sizes][]) {
      const what = JSON.stringify([other, sizes.said?.length]);
      const scores = new Map<Text, number[][]>();
      const onStates = ({ hidden, rows, texts: read }: ReadStates): StatesUse => {
        const targets = read.flatMap(({ text, first, rowOf }) => rowOf.map((_, i) => text.ids[text.wanted[first + i]]));
        const all = gatherRows(
          hidden,
          read.flatMap(({ rowOf }) => rowOf),
        );
        const own: RowGroup[] = [];
        let start = 0;
        for (const { text, rowOf } of read) {
          own.push({ point: text.policy, start, count: rowOf.length });
          start += rowOf.length;
        }
        assert.ok(rows !== null);
        const tokens = fromArray(backend, targets, [targets.length], "u32");
        const { logProbs, entropy } = head(all, headWeight(config, weights), tokens, { temperature: 1 }, own);
        return {
          tensors: [logProbs, entropy],
          take: (numbers) => {
            for (const [i, { text, first }] of read.entries()) {
              const all = scores.get(text) ?? [[], []];
              assert.equal(all[0].length, first < 0 ? all[0].length : first);
              numbers.forEach((values, kind) => {
                all[kind].push(...values.slice(own[i].start, own[i].start + own[i].count));
              });
              scores.set(text, all);
            }
          },
        };
      };
      const mixed = await talk(model, { ...other, onStates }, { ...sizes, policies: 2, texts });
      assert.deepEqual(mixed.heard, plain.heard, what);
      assert.equal(mixed.sampled, plain.sampled, what);
      assert.equal(scores.size, texts.length, what);
      for (const policy of [0, 1]) {
        const own = texts.filter((text) => text.policy === policy);
        const sequences = own.map(({ prompt, ids, wanted }) => {
          const all = [...Array.from(prompt), ...Array.from(ids)];
          const scored = new Set(wanted.map((place) => prompt.length + place));
          return { ids: all, mask: all.map((_, t) => (scored.has(t) ? 1 : 0)) };
        });
        const expected = await scoresAt(model, sequences, policy);
        for (const [i, text] of own.entries()) {
          sameBits(`${what}: logProbs`, Float32Array.from(scores.get(text)?.[0] ?? []), expected[i].logProbs);
          sameBits(`${what}: entropy`, Float32Array.from(scores.get(text)?.[1] ?? []), expected[i].entropy);
        }
      }
      // What was said, in two passes with the texts: only tokens after a changed one are more, and those of texts without pause.
      if (sizes.said !== undefined) {
        const late = texts.filter(({ pauses = [] }) => pauses.length === 0).length;
        assert.ok(late > 5);
        const least = distinct([
          ...plain.texts,
          ...texts.map(({ policy, prompt, ids, wanted }) => {
            const read = Array.from(ids).slice(0, wanted[wanted.length - 1]);
            return [policy, ...Array.from(prompt), ...read, 0];
          }),
        ]);
        assert.ok(
          mixed.tokens >= least && mixed.tokens <= least + 9 * late,
          `${mixed.tokens} tokens, at least ${least}`,
        );
      }
    }
    weights.free();
    arena.free();
  });

  test("a text alone; one without a place that is wanted; one that pauses beyond its end; one that is too short for its places", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const model = { backend, config, weights };
    const text: Text = { policy: 0, prompt: [1, 2, 3], ids: [4, 5, 6], wanted: [0, 2] };
    let rows = 0;
    const onStates = ({ hidden, texts: [{ rowOf }] }: ReadStates): StatesUse => {
      rows = hidden.rows;
      assert.deepEqual(rowOf, [0, 1]);
      return { tensors: [], take: () => {} };
    };
    await generate(model, [text], { ...settings, onStates });
    assert.equal(rows, 2);
    const read: number[][] = [];
    const noting = ({ texts }: ReadStates): StatesUse => {
      for (const { first, rowOf } of texts) read.push([first, rowOf.length]);
      return { tensors: [], take: () => {} };
    };
    const reads = async (other: Partial<Text>, more: Partial<GenerateSettings> = {}) => {
      read.length = 0;
      await generate(model, [{ ...text, ...other }], { ...settings, ...more, onStates: noting });
      return read;
    };
    assert.deepEqual(await reads({ wanted: [] }), [[-1, 0]]);
    assert.deepEqual(await reads({ pauses: [5] }), [[0, 2]]);
    assert.deepEqual(await reads({ pauses: [1] }), [
      [0, 1],
      [1, 1],
    ]);
    await assert.rejects(generate(model, [text], settings), /no onStates takes their states/);
    await assert.rejects(generate(model, [{ ...text, wanted: [4] }], { ...settings, onStates }), /has no place 4/);
    weights.free();
  });

  test("a text that does not fit beside the rows before it is read in parts, and holds up no row of its point", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights: arena } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const weights = new SlotWeights(arena, 2);
    weights.placeAlong([() => [], () => []]);
    const dialogue = (policy: number, k: number): Dialogue => ({
      ...{ policy, prompt: [1, 2, 3 + k], noise: { rollout: k, prompt: 1 }, expectedTokens: 8, answered: () => null },
    });
    const ids = Array.from({ length: 50 }, (_, i) => 7 * i);
    const first = Array.from({ length: 16 }, (_, k) => dialogue(0, k));
    // The second point's are admitted with the first two of the other's; later ones of that take their places.
    const [begin, rest] = [first.slice(0, 2), first.slice(2)];
    const text: Text = { policy: 1, prompt: [1, 2, 9], ids, wanted: [3, 49] };
    let pass = 0;
    const readIn: number[] = [];
    const rows: number[] = [];
    await generate({ backend, config, weights }, [...begin, text, dialogue(1, 20), dialogue(1, 21), ...rest], {
      ...{ ...settings, stopIds: [], maxRows: 4, maxTokens: 48 },
      onStates: ({ texts }) => {
        for (const { rowOf } of texts) for (const _ of rowOf) readIn.push(pass);
        return { tensors: [], take: () => {} };
      },
      onPass: (one) => {
        pass++;
        rows.push(one.rows);
      },
    });
    assert.deepEqual(readIn, [0, 1]);
    assert.ok(
      rows.slice(1, 8).every((count) => count === 4),
      `${rows}`,
    );
    weights.free();
    arena.free();
  });

  test("a model that does not copy keys shares nothing", async () => {
    const { backend } = await webgpuBackend();
    const { config, weights } = await loadModel(backend, fixturePath("qwen2-tiny"));
    const { apart, shared } = await expectSame("without", {
      backend,
      config: { ...config, copiesSlots: false },
      weights,
    });
    assert.equal(shared.tokens, apart.tokens);
    weights.free();
  });

  test("a pass: which tokens are computed, copied and drawn from", () => {
    const row = (policy: number, slot: number, ids: number[], more: Partial<Row> = {}): Row => ({
      dialogue: { policy, prompt: [], noise: { rollout: 0, prompt: 0 }, expectedTokens: 0, answered: () => null },
      ...{ text: null, prefixKey: "", prefix: { start: 100, length: 0, users: 2, history: Number.NaN } },
      ...{ own: { start: slot, length: 9 }, tokens: ids, computed: 0, history: Number.NaN, pendingPrefix: null },
      ...{ turn: 0, seen: null, answer: { ids: [], logProbs: [], entropies: [] }, coming: null, ...more },
    });
    const tokens = new PassTokens("all", 50);
    const rows = [
      row(0, 0, [1, 2, 3]),
      row(0, 10, [1, 2, 4]),
      row(0, 20, [1, 2]),
      row(1, 30, [1, 2]),
      row(0, 40, [1, 5], { computed: 1, history: 17 }),
      row(0, 50, [1, 5], { computed: 1, history: 17 }),
      row(0, 60, [1, 5], { computed: 1, history: 18 }),
    ];
    for (const [i, one] of rows.entries()) {
      assert.equal(tokens.needed(one), [3, 1, 0, 2, 1, 0, 1][i]);
      tokens.add(one);
      tokens.draw(one, i === 0 ? { ids: [8, 9], computed: 2 } : { ids: [8], computed: i === 5 ? 1 : 0 });
    }
    assert.deepEqual(tokens.ids, [1, 2, 3, 8, 9, 4, 1, 2, 5, 8, 5]);
    assert.deepEqual(tokens.slots, [0, 1, 2, 3, 4, 12, 30, 31, 41, 52, 61]);
    assert.deepEqual(tokens.copies, { from: [0, 1, 0, 1, 41], to: [10, 11, 20, 21, 51] });
    assert.deepEqual(tokens.sampledAt, [2, 3, 4, 5, 1, 7, 8, 8, 9, 10]);
    assert.deepEqual(tokens.outputs(false), {
      indices: Uint32Array.of(1, 2, 3, 4, 5, 7, 8, 9, 10),
      drawn: null,
      rowOf: Uint32Array.of(1, 2, 3, 4, 0, 5, 6, 6, 7, 8),
    });
    assert.deepEqual(tokens.outputs(true), tokens.outputs(false));
    assert.deepEqual(
      tokens.groupsOf(tokens.outputs(false).indices).map(({ start, count, point }) => [start, count, point]),
      [
        [0, 5, 0],
        [5, 1, 1],
        [6, 3, 0],
      ],
    );
    assert.equal(rows[4].history, rows[5].history);
    assert.equal(new Set(rows.map(({ history }) => history)).size, 6);
  });
});

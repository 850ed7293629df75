import { deepStrictEqual } from "node:assert/strict";
import * as assert from "uvu/assert";
import type { ByRollout, CellRecord, ReferenceSet } from "../../../landscape/files/cells.ts";
import { promptMaps } from "../../../landscape/statistics/cell-sums.ts";
import { pointOf, readPoints, writePoints } from "../../../landscape/statistics/points.ts";
import { meanMap } from "../../../landscape/statistics/prompt-maps.ts";
import { mean } from "../../../landscape/statistics/statistics.ts";
import { assertClose, describe, readFixture, throwsMessage } from "../../support.ts";

interface LandscapeFixture {
  sequences: { group: number; mask: number[]; reward: number; advantage: number }[];
  points: {
    alpha: number;
    beta: number;
    klPerToken: number;
    klPerSequence: number;
    k1: number;
    entropy: number;
    sequences: { kl: number; logRatio: number; entropy: number }[];
  }[];
}
interface GrpoFixture {
  losses: {
    name: string;
    groups: number[][];
    advantages: number[];
    samplerLogProbs: number[][];
    trainerLogProbs: number[][];
    mask: number[][];
    clipped: { clipLow: number; clipHigh: number; normalisation: string; klCoefficient: number; objective: number }[];
  }[];
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const like = (of: ByRollout, value: number) => of.map((row) => row.map(() => value));

/** A cell of which only what is given matters. */
function cell(
  reward: ByRollout,
  over: Partial<CellRecord["rollouts"]> = {},
  reference: Partial<CellRecord["reference"]> = {},
  tokens: ByRollout = reward,
): CellRecord {
  return {
    ...{ i: 1, j: 1, alpha: 0, beta: 0 },
    rollouts: {
      reward,
      tokens: like(reward, 5),
      entropy: like(reward, 1),
      truncated: like(reward, 0),
      formatFailed: like(reward, 0),
      ...over,
    },
    reference: {
      kl: like(tokens, 0),
      k1: like(tokens, 0),
      k3: like(tokens, 0),
      objective: like(tokens, 0),
      entropy: like(tokens, 0),
      ...reference,
    },
  };
}

describe("landscape/statistics/points", (test) => {
  test("averages of KL, k1 and entropy equal PyTorch's over the known grid", () => {
    const { sequences, points } = readFixture<LandscapeFixture>("landscape.json");
    const groups = [...new Set(sequences.map(({ group }) => group))];
    const grouped = (value: (k: number) => number) =>
      groups.map((group) => sequences.flatMap((sequence, k) => (sequence.group === group ? [value(k)] : [])));
    const reference: ReferenceSet = {
      tokens: grouped((k) => sum(sequences[k].mask)),
      reward: grouped((k) => sequences[k].reward),
      advantage: grouped((k) => sequences[k].advantage),
    };
    const side = Math.sqrt(points.length);
    const cells = points.map(({ alpha, beta, sequences: of }, at): CellRecord => {
      const scored = {
        kl: grouped((k) => of[k].kl),
        k1: grouped((k) => -of[k].logRatio),
        entropy: grouped((k) => of[k].entropy),
      };
      const made = cell(reference.reward, {}, scored, reference.tokens);
      return { ...made, i: Math.floor(at / side), j: at % side, alpha, beta };
    });
    const tolerance = { relative: 1e-9, absolute: 1e-12 };
    points.forEach((expected, at) => {
      const got = pointOf(cells[at], reference);
      const where = `(${expected.alpha}, ${expected.beta})`;
      assertClose(`${where} kl_token`, [got.kl_token], [expected.klPerToken], tolerance);
      assertClose(`${where} kl_sequence`, [got.kl_sequence], [expected.klPerSequence], tolerance);
      assertClose(`${where} k1_token`, [got.k1_token], [expected.k1], tolerance);
      assertClose(`${where} reference_entropy`, [got.reference_entropy], [expected.entropy], tolerance);
      assertClose(`${where} reward`, [got.reward], [mean(sequences.map(({ reward }) => reward))], tolerance);
    });
    const radius = Math.max(...points.map(({ alpha }) => alpha));
    const maps = promptMaps([...cells].reverse(), reference, { points: side, radius });
    assertClose(
      "mean of K_i",
      meanMap(maps.kl),
      points.map(({ klPerToken }) => klPerToken),
      tolerance,
    );
    assert.equal(
      maps.cells.map(({ alpha, beta }) => [alpha, beta]),
      points.map(({ alpha, beta }) => [alpha, beta]),
    );
  });
  test("J in all three normalisations equals the known objectives", () => {
    const columns = new Map([
      ["batch-token", "j_batch_token"],
      ["group-token", "j_group_token"],
      ["sequence", "j_sequence"],
    ] as const);
    let compared = 0;
    for (const batch of readFixture<GrpoFixture>("grpo.json").losses)
      for (const { clipLow, clipHigh, normalisation, objective } of batch.clipped) {
        const column = [...columns].find(([name]) => name === normalisation)?.[1];
        if (column === undefined) continue;
        const surrogate = (k: number) =>
          sum(
            batch.mask[k].map((mask, t) => {
              const ratio = Math.exp(batch.trainerLogProbs[k][t] - batch.samplerLogProbs[k][t]);
              const clipped = Math.min(1 + clipHigh, Math.max(1 - clipLow, ratio));
              return mask === 0 ? 0 : Math.min(ratio * batch.advantages[k], clipped * batch.advantages[k]);
            }),
          );
        const tokens = batch.groups.map((group) => group.map((k) => sum(batch.mask[k])));
        const sums = batch.groups.map((group) => group.map(surrogate));
        const reference = { tokens, reward: tokens, advantage: tokens };
        const got = pointOf(cell([[1]], {}, { objective: sums }, tokens), reference)[column];
        assertClose(`${batch.name} ${normalisation}`, [got], [objective], { relative: 1e-9, absolute: 1e-12 });
        compared++;
      }
    assert.ok(compared > 0);
  });
  test("named averages by hand", () => {
    const tokens = [
      [2, 0],
      [4, 6],
    ];
    const kl = [
      [0.2, 0],
      [0.4, 1.2],
    ];
    const reference = { tokens, reward: tokens, advantage: tokens };
    const rollouts = {
      tokens: [
        [2, 4],
        [6, 8],
      ],
      entropy: [
        [1, 2],
        [3, 4],
      ],
      truncated: [
        [0, 1],
        [0, 0],
      ],
      formatFailed: [
        [1, 1],
        [0, 1],
      ],
    };
    const got = pointOf(
      cell(
        [
          [0, 1],
          [0.5, 0.5],
        ],
        rollouts,
        { kl, k3: kl, k1: kl },
        tokens,
      ),
      reference,
    );
    const expected: Record<string, number> = {
      reward: 0.5,
      reward_error: 0,
      kl_token: 1.8 / 12,
      kl_sequence: (0.1 + 0.8) / 2,
      kl_sequence_mean: (0.1 + 0 + 0.1 + 0.2) / 4, // a sequence without tokens gives 0 and counts
      k3_token: 1.8 / 12,
      k1_sequence_mean: 0.1,
      k3_sequence_mean: 0.1,
      entropy: 10 / 20,
      length: 5,
      truncated: 0.25,
      format_failed: 0.75,
      pass_at_1_reward_1: 0.25,
      pass_at_2_reward_1: 0.5,
      "pass_at_1_reward_0.5": 0.75,
      cover_at_1_reward_1: 0,
      "cover_at_0.5_reward_1": 0.5,
      "cover_at_1_reward_0.5": 0.5,
    };
    const entries = Object.entries(expected);
    const row = new Map<string, number>(Object.entries(got));
    for (const [name, value] of entries) assertClose(name, [row.get(name) ?? Number.NaN], [value], { absolute: 1e-15 });
    assert.not.ok(row.has("pass_at_4_reward_1"));
  });
  test("points.csv reads back to the same bits, in order", () => {
    const reference = { tokens: [[3]], reward: [[1]], advantage: [[0]] };
    const at = (i: number, j: number, kl: number) => ({
      ...cell([[1 / 3]], {}, { kl: [[kl]] }, [[3]]),
      i,
      j,
      alpha: i * 0.1,
      beta: -j / 3,
    });
    const rows = [at(10, 0, 1e-300), at(2, 1, Math.PI), at(2, 0, 1e21)].map((of) => pointOf(of, reference));
    const text = writePoints(rows);
    assert.ok(text.startsWith("i,j,alpha,beta,reward,reward_error,kl_token,"));
    // −0 is written as 0.
    rows[2].beta = 0;
    rows[0].beta = 0;
    deepStrictEqual(readPoints(text), [rows[2], rows[1], rows[0]]);
    assert.is(writePoints(readPoints(text)), text);
    assert.ok(Number.isNaN(readPoints(text)[0].reward_error)); // one prompt has no spread
    assert.equal(readPoints(text.replaceAll("\n", "\r\n")), readPoints(text));
  });
  test("damaged tables are refused with line and column; foreign columns are passed over", async () => {
    const reference = { tokens: [[3]], reward: [[1]], advantage: [[0]] };
    const text = writePoints([pointOf(cell([[0.75]], {}, {}, [[3]]), reference)]);
    await throwsMessage(
      () => readPoints(text.replace(",0.75,", ",75x,"), "a/points.csv"),
      "a/points.csv: line 2",
      'column "reward"',
      "75x",
    );
    await throwsMessage(() => readPoints(text.replace("kl_token", "kl")), '"kl_token"', "cells.jsonl");
    await throwsMessage(() => readPoints(text.split(",").slice(0, -1).join(",")), "line 2", 'got ""');
    await throwsMessage(() => readPoints(text.replace("\n1,", "\n,")), 'column "i"');
    await throwsMessage(() => readPoints(""), "expected a column");
    const [header, row] = text.trimEnd().split("\n");
    assert.equal(readPoints(`${header},note\n${row},mine\n`), readPoints(text));
  });
  test("records whose arrays do not go together are refused", async () => {
    const reference = {
      tokens: [
        [3, 3],
        [3, 3],
      ],
      reward: [
        [1, 1],
        [1, 1],
      ],
      advantage: [
        [0, 0],
        [0, 0],
      ],
    };
    const sound = cell([[1], [0]], {}, {}, reference.tokens);
    pointOf(sound, reference);
    const short = { ...sound, reference: { ...sound.reference, k3: [[0, 0], [0]] } };
    await throwsMessage(() => pointOf(short, reference), "cell (1, 1): reference.k3", "[2,2]", "got [2,1]");
    const none = cell([[1], []], {}, {}, reference.tokens);
    await throwsMessage(() => pointOf(none, reference), "none of them 0");
    const grid = { points: 3, radius: 0.05 };
    await throwsMessage(() => promptMaps([{ ...sound, i: 3 }], reference, grid), "indices below 3");
    await throwsMessage(() => promptMaps([{ ...sound, j: 0 }], reference, grid), "cell (1, 0) at (0, 0)", "(0, -0.05)");
    const fewer = { ...cell([[1]], {}, {}, reference.tokens), j: 2, beta: 0.05 };
    await throwsMessage(() => promptMaps([sound, fewer], reference, grid), "cell (1, 2)", "2 prompts", "got 1");
  });
});

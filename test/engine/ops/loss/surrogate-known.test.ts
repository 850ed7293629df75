// Known answers: losses and gradients of PyTorch and of prime-rl.
import type { NumberArray } from "../../../../engine/dtype.ts";
import { type Normalisation, normalisations, ratioStatistics, tokenWeights } from "../../../../rl/token-weights.ts";
import { reference } from "../../../backends.ts";
import { assertClose, assertKnown, describe, readFixture, type Tolerance } from "../../../support.ts";
import { evaluate, everyBackend, usual } from "./surrogate-cases.ts";

interface Batch {
  name: string;
  advantages: number[];
  samplerLogProbs: number[][];
  trainerLogProbs: number[][];
  mask: number[][];
}
interface ClippedBatch extends Batch {
  groups: number[][];
  referenceLogProbs: number[][];
  clipped: {
    clipLow: number;
    clipHigh: number;
    normalisation: Normalisation;
    klCoefficient: number;
    objective: number;
    klPenalty: number;
    loss: number;
    clipFractionLow: number;
    clipFractionHigh: number;
    outsideFraction: number;
    ratioMean: number;
    gradient: number[][];
  }[];
}
interface ImportanceBatch extends Batch {
  ratioLow: number;
  ratioHigh: number;
  loss: number;
  droppedFractionLow: number;
  droppedFractionHigh: number;
  gradient: number[][];
}
interface GrpoFixture {
  losses: ClippedBatch[];
  maskedImportance: ImportanceBatch[];
}

/** Everything of a fixture's batch as vectors over all places, masked ones too. */
function flatten(batch: Batch): { advantages: number[]; logProbs: number[]; oldLogProbs: number[] } {
  return {
    advantages: batch.mask.flatMap((row, s) => row.map(() => batch.advantages[s])),
    logProbs: batch.trainerLogProbs.flat(),
    oldLogProbs: batch.samplerLogProbs.flat(),
  };
}

/** The batch's rows as rollouts of the groups that it names, or of one group each. */
function rolloutsOf(batch: Batch, groups: readonly (readonly number[])[] = []) {
  return batch.mask.map((row, s) => ({
    tokens: row.reduce((sum, m) => sum + m, 0),
    group: groups.length === 0 ? s : groups.findIndex((group) => group.includes(s)),
    advantage: batch.advantages[s],
  }));
}

/** The weight of each place: its row's where the mask is 1, else 0. */
function perPlace({ mask }: Batch, weights: ArrayLike<number>): Float64Array {
  return Float64Array.from(mask.flatMap((row, s) => row.map((m) => (m === 1 ? weights[s] : 0))));
}

/** The entries where the mask is 1. */
function unmasked(values: NumberArray, { mask }: Batch): Float64Array {
  const isCounted = mask.flat();
  return Float64Array.from(values).filter((_, i) => isCounted[i] === 1);
}

describe("engine/ops/loss/surrogate: known answers", (test) => {
  test("losses and gradients of PyTorch, all normalisations", async () => {
    for (const batch of readFixture<GrpoFixture>("grpo.json").losses) {
      const given = flatten(batch);
      const rollouts = rolloutsOf(batch, batch.groups);
      for (const row of batch.clipped)
        for (const { name, backend, dtype } of await everyBackend()) {
          const settings = { ...usual, clipLow: row.clipLow, clipHigh: row.clipHigh, klCoefficient: row.klCoefficient };
          const weights = perPlace(batch, tokenWeights(row.normalisation, rollouts));
          const referenceLogProbs = row.klCoefficient === 0 ? undefined : batch.referenceLogProbs.flat();
          const found = await evaluate(backend, { ...given, weights, referenceLogProbs }, settings, dtype);
          const context = `${batch.name} ${row.normalisation} ${row.clipHigh} ${row.klCoefficient}`;
          const exact = dtype === "f64";
          const tolerance = exact ? { relative: 1e-9 } : { absolute: 1e-6 };
          const compare = (
            quantity: string,
            got: ArrayLike<number>,
            expected: number[],
            allowed: Tolerance = tolerance,
          ) => assertKnown("grpo.json", `clipped: ${quantity}`, name, got, expected, allowed, context);
          compare("loss", [found.loss], [row.loss]);
          const gradients = exact ? { relative: 1e-9, absolute: 1e-16 } : { ofScale: 2e-6 };
          compare("gradient", found.gradient, row.gradient.flat(), gradients);
          const sum = (terms: NumberArray): number => weights.reduce((total, w, i) => total + w * terms[i], 0);
          compare("objective", [sum(found.objective)], [row.objective]);
          if (referenceLogProbs) compare("penalty", [sum(found.penalty)], [row.klPenalty]);

          const statistics = ratioStatistics(unmasked(found.ratio, batch), rollouts, settings);
          compare("clipFractionLow", [statistics.clippedLow], [row.clipFractionLow], { absolute: 1e-12 });
          compare("clipFractionHigh", [statistics.clippedHigh], [row.clipFractionHigh], { absolute: 1e-12 });
          compare("outsideFraction", [statistics.outside], [row.outsideFraction], { absolute: 1e-12 });
          compare("ratioMean", [statistics.ratioMean], [row.ratioMean]);
        }
    }
  });

  test("constant: the batch's sum over sequences · maxNewTokens, losses and gradients", async () => {
    for (const batch of readFixture<GrpoFixture>("grpo.json").losses) {
      const given = flatten(batch);
      const rollouts = rolloutsOf(batch, batch.groups);
      const maxNewTokens = batch.mask[0].length;
      // Of "batch-token" the same sum is divided by the tokens.
      const share = rollouts.reduce((sum, { tokens }) => sum + tokens, 0) / (batch.mask.length * maxNewTokens);
      for (const row of batch.clipped.filter(({ normalisation }) => normalisation === "batch-token"))
        for (const { name, backend, dtype } of await everyBackend()) {
          const settings = { ...usual, clipLow: row.clipLow, clipHigh: row.clipHigh, klCoefficient: row.klCoefficient };
          const weights = perPlace(batch, tokenWeights("constant", rollouts, maxNewTokens));
          const referenceLogProbs = row.klCoefficient === 0 ? undefined : batch.referenceLogProbs.flat();
          const found = await evaluate(backend, { ...given, weights, referenceLogProbs }, settings, dtype);
          const exact = dtype === "f64";
          const compare = (quantity: string, got: ArrayLike<number>, expected: number[], allowed: Tolerance) =>
            assertKnown("grpo.json", `constant: ${quantity}`, name, got, expected, allowed, batch.name);
          compare("loss", [found.loss], [share * row.loss], exact ? { relative: 1e-9 } : { absolute: 1e-6 });
          const gradients = exact ? { relative: 1e-9, absolute: 1e-16 } : { ofScale: 2e-6 };
          compare(
            "gradient",
            found.gradient,
            row.gradient.flat().map((g) => share * g),
            gradients,
          );
        }
    }
  });

  test("masked importance as prime-rl defines it", async () => {
    for (const batch of readFixture<GrpoFixture>("grpo.json").maskedImportance) {
      const given = flatten(batch);
      const rollouts = rolloutsOf(batch);
      const weights = perPlace(batch, tokenWeights("batch-token", rollouts));
      const settings = {
        ...usual,
        kind: "masked-importance" as const,
        ratioLow: batch.ratioLow,
        ratioHigh: batch.ratioHigh,
      };
      for (const { name, backend, dtype } of await everyBackend()) {
        const found = await evaluate(backend, { ...given, weights }, settings, dtype);
        const exact = dtype === "f64";
        const compare = (quantity: string, got: ArrayLike<number>, expected: number[], allowed: Tolerance) =>
          assertKnown("grpo.json", `masked importance: ${quantity}`, name, got, expected, allowed, batch.name);
        compare("loss", [found.loss], [batch.loss], exact ? { relative: 1e-9 } : { absolute: 1e-6 });
        const gradients = exact ? { relative: 1e-9, absolute: 1e-16 } : { ofScale: 2e-6 };
        compare("gradient", found.gradient, batch.gradient.flat(), gradients);
        const statistics = ratioStatistics(unmasked(found.ratio, batch), rollouts, settings);
        compare(
          "dropped",
          [statistics.droppedLow, statistics.droppedHigh],
          [batch.droppedFractionLow, batch.droppedFractionHigh],
          { absolute: 1e-12 },
        );
      }
    }
  });

  test("micro-batches add up to the batch", async () => {
    const batch = readFixture<GrpoFixture>("grpo.json").losses[0];
    const given = flatten(batch);
    for (const normalisation of normalisations) {
      const weights = perPlace(batch, tokenWeights(normalisation, rolloutsOf(batch, batch.groups), 32));
      const whole = await evaluate(reference, { ...given, weights }, usual, "f64");
      let loss = 0;
      const gradient: number[] = [];
      const cut = Math.floor(weights.length / 3);
      for (const [from, to] of [
        [0, cut],
        [cut, weights.length],
      ]) {
        const part = await evaluate(
          reference,
          {
            logProbs: given.logProbs.slice(from, to),
            oldLogProbs: given.oldLogProbs.slice(from, to),
            advantages: given.advantages.slice(from, to),
            weights: weights.slice(from, to),
          },
          usual,
          "f64",
        );
        loss += part.loss;
        gradient.push(...part.gradient);
      }
      assertClose(`${normalisation}: loss`, [loss], [whole.loss], { relative: 1e-12 });
      assertClose(`${normalisation}: gradient`, gradient, whole.gradient, { relative: 1e-12 });
    }
  });
});

// Every loss against TRL's own numbers (losses.json: real trainers with tables in place of the forward pass).
import * as assert from "uvu/assert";
import {
  type Backend,
  fromArray,
  GradientMap,
  type NumberArray,
  record,
  scopeAsync,
  type Tensor,
} from "../../engine/index.ts";
import { type PolicyLoss, policyLoss, topEntropyTokens } from "../../rl/policy-loss.ts";
import { stepMetrics } from "../../rl/step-metrics.ts";
import { type Normalisation, tokenWeights } from "../../rl/token-weights.ts";
import { reference as plainBackend, testBackends } from "../backends.ts";
import { assertKnown, describe, readFixture, type Tolerance } from "../support.ts";
import { outcomeOf, rollout } from "./measured-step.ts";

interface Batch {
  name: string;
  groups: number[][];
  rewards: number[];
  advantages: number[];
  mask: number[][];
  trainerLogProbs: number[][];
  oldLogProbs: number[][];
  samplerLogProbs: number[][];
  referenceLogProbs: number[][];
  entropy: number[][];
}

interface Form {
  batch: string;
  lossType: string;
  importanceLevel: "token" | "sequence";
  ratioTo: "old" | "self" | "sampler";
  clipLow: number;
  clipHigh: number;
  ratioCap: number | null;
  klCoefficient: number;
  klImportanceWeighted: boolean;
  completionLimit: number | null;
  topEntropyQuantile: number;
  entropyCoefficient: number;
  offPolicyThreshold: number | null;
  samplerCorrection: unknown;
  sapo?: { temperaturePositive: number; temperatureNegative: number };
}

interface Result {
  loss: number;
  gradient: number[][];
  metrics: Record<string, number>;
}

interface Fixture {
  batches: Batch[];
  losses: (Form & Result & { section: string; gradientEntropy?: number[][]; kept?: number[][] })[];
  accumulation: (Form & {
    microBatchesPerStep: number;
    microBatchesPerGeneration: number;
    wholeLoss: number;
    wholeGradient: number[][];
    sameAsWhole: boolean;
  })[];
  truncated: (Form & { truncated: number[]; kept: Result; masked: Result })[];
  droppedGroups: (Form & { zeroVarianceGroups: number[]; kept: Result; dropped: Result })[];
}

const known = readFixture<Fixture>("losses.json");

/** Our names of TRL's loss types. VESPO, GMPO and RLOO have none. */
const ours: Readonly<Record<string, { kind: PolicyLoss["kind"]; normalisation: Normalisation }>> = {
  grpo: { kind: "clipped", normalisation: "sequence" },
  bnpo: { kind: "clipped", normalisation: "batch-token" },
  dapo: { kind: "clipped", normalisation: "batch-token" },
  dr_grpo: { kind: "clipped", normalisation: "constant" },
  cispo: { kind: "cispo", normalisation: "batch-token" },
  sapo: { kind: "sapo", normalisation: "sequence" },
  luspo: { kind: "clipped", normalisation: "rollout-sum" },
};

function isOurs({ lossType, offPolicyThreshold, samplerCorrection }: Form): boolean {
  return Object.hasOwn(ours, lossType) && offPolicyThreshold === null && samplerCorrection === null;
}

function batchOf({ batch }: Form): Batch {
  const found = known.batches.find(({ name }) => name === batch);
  if (found === undefined) throw new Error(`losses.json: no batch ${batch}`);
  return found;
}

function lossOf(form: Form): PolicyLoss {
  const { lossType, importanceLevel, clipLow, clipHigh, ratioCap, klCoefficient, klImportanceWeighted } = form;
  const { kind } = ours[lossType];
  return {
    kind,
    ...{ importanceLevel, clipLow, clipHigh, klCoefficient, ratioLow: 0, ratioHigh: 1 },
    // TRL's epsilon_high is CISPO's bound itself.
    ratioCap: kind === "cispo" ? clipHigh : (ratioCap ?? 0),
    klTimesRatio: klImportanceWeighted,
    entropyCoefficient: form.entropyCoefficient,
    sapoPositive: form.sapo?.temperaturePositive,
    sapoNegative: form.sapo?.temperatureNegative,
  };
}

interface Found {
  loss: number;
  /** Per row, of its places; 0 where masked. */
  gradient: number[][];
  gradientEntropy: number[][];
  ratio: NumberArray;
  penalty: NumberArray;
  kept: Uint8Array[];
}

const indices = (mask: readonly number[]): number[] => mask.flatMap((m, t) => (m === 1 ? [t] : []));

/** The loss of some rows of a batch, with a mask that may leave some of them without tokens. */
function evaluate(
  backend: Backend,
  dtype: "f32" | "f64",
  batch: Batch,
  form: Form,
  rows: readonly number[],
  mask: readonly (readonly number[])[],
): Promise<Found> {
  const at = rows.map((s) => indices(mask[s]));
  const tokensOf = (values: readonly (readonly number[])[]): number[] =>
    rows.flatMap((s, i) => at[i].map((t) => values[s][t]));
  const perRow = (value: (i: number) => number): number[] =>
    rows.flatMap((_, i) => new Array<number>(at[i].length).fill(value(i)));
  const weights = tokenWeights(
    ours[form.lossType].normalisation,
    rows.map((s, i) => ({ tokens: at[i].length, group: batch.groups.findIndex((group) => group.includes(s)) })),
    form.completionLimit ?? undefined,
  );
  const kept = topEntropyTokens(
    rows.map((s, i) => at[i].map((t) => batch.entropy[s][t])),
    form.topEntropyQuantile,
  );
  const keptFlat = kept.flatMap((one) => [...one]);
  const counted = keptFlat.reduce((a, b) => a + b, 0);
  const old = { old: batch.oldLogProbs, self: batch.trainerLogProbs, sampler: batch.samplerLogProbs }[form.ratioTo];
  return scopeAsync(async () => {
    const give = (values: number[]): Tensor => fromArray(backend, values, [values.length], dtype);
    const logProbs = give(tokensOf(batch.trainerLogProbs));
    const entropy = give(tokensOf(batch.entropy));
    logProbs.requiresGradient = true;
    entropy.requiresGradient = true;
    const recording = record(() =>
      policyLoss(
        {
          ...{ logProbs, entropy, oldLogProbs: give(tokensOf(old)) },
          advantages: give(perRow((i) => batch.advantages[rows[i]]).map((a, i) => a * keptFlat[i])),
          weights: give(perRow((i) => weights[i])),
          referenceLogProbs: form.klCoefficient === 0 ? null : give(tokensOf(batch.referenceLogProbs)),
          entropyWeights:
            form.entropyCoefficient === 0
              ? null
              : give(keptFlat.map((one) => (-form.entropyCoefficient * one) / counted)),
          lengths: at.map(({ length }) => length),
        },
        lossOf(form),
      ),
    );
    const { loss, ratio, penalty } = recording.result;
    const gradients = new GradientMap([logProbs, entropy]);
    recording.backward(new Map([[loss, give([1])]]), gradients);
    const spread = async (tensor: Tensor): Promise<number[][]> => {
      const values = (await gradients.get(tensor)?.read()) ?? new Float64Array(tensor.size);
      const places = batch.mask.map((row) => row.map(() => 0));
      let next = 0;
      rows.forEach((s, i) => {
        for (const t of at[i]) places[s][t] = values[next++];
      });
      return places;
    };
    const found = {
      loss: (await loss.read())[0],
      gradient: await spread(logProbs),
      gradientEntropy: await spread(entropy),
      ratio: await ratio.read(),
      penalty: await penalty.read(),
      kept,
    };
    gradients.free();
    return found;
  });
}

async function everyBackend(): Promise<{ name: string; backend: Backend; dtype: "f32" | "f64" }[]> {
  const others = (await testBackends()).map((found) => ({ ...found, dtype: "f32" as const }));
  return [{ name: "plain f64", backend: plainBackend, dtype: "f64" }, ...others];
}

function describeForm({ batch, lossType, importanceLevel, ratioTo, ...form }: Form): string {
  const { clipHigh, ratioCap, klCoefficient, topEntropyQuantile, entropyCoefficient } = form;
  const more = [clipHigh, ratioCap, klCoefficient, topEntropyQuantile, entropyCoefficient].join(" ");
  return `${batch} ${lossType} ${importanceLevel} ${ratioTo} ${more}`;
}

function compare(on: { name: string; dtype: "f32" | "f64" }, section: string, found: Found, truth: Result, form: Form) {
  const exact = on.dtype === "f64";
  const loss: Tolerance = exact ? { relative: 1e-9, absolute: 1e-12 } : { absolute: 4e-6 * (1 + Math.abs(truth.loss)) };
  const gradient: Tolerance = exact ? { ofScale: 1e-9, absolute: 1e-16 } : { ofScale: 1.5e-5 };
  const of = (quantity: string, a: ArrayLike<number>, b: ArrayLike<number>, allowed: Tolerance) =>
    assertKnown("losses.json", `${section}: ${quantity}`, on.name, a, b, allowed, describeForm(form));
  of("loss", [found.loss], [truth.loss], loss);
  of("gradient", found.gradient.flat(), truth.gradient.flat(), gradient);
}

/** The metrics of the step under TRL's names, as far as the fixture has them. */
function compareMetrics(on: string, batch: Batch, form: Form, found: Found, metrics: Record<string, number>): void {
  const { kind } = ours[form.lossType];
  const rollouts = batch.mask.map((mask, s) =>
    rollout(batch.rewards[s], {
      ...{ ids: mask.map(() => 0), mask, logProbs: batch.oldLogProbs[s] },
      tokens: indices(mask).length,
    }),
  );
  const order = batch.groups.flat();
  assert.equal(order, [...order.keys()], "groups in order");
  const own = stepMetrics({
    groups: batch.groups.map((group) => group.map((s) => rollouts[s])),
    advantages: batch.advantages,
    outcomes: [
      outcomeOf(0, {
        logProbs: batch.mask.flatMap((mask, s) => indices(mask).map((t) => batch.trainerLogProbs[s][t])),
        entropy: batch.mask.flatMap((mask, s) => indices(mask).map((t) => batch.entropy[s][t])),
        ratio: [...found.ratio],
        penalty: [...found.penalty],
      }),
    ],
    learningRate: 1,
    settings: {
      ...lossOf(form),
      ratioCap: lossOf(form).ratioCap ?? 0,
      importanceLevel: form.importanceLevel,
      loss: kind,
    },
  });
  const names: Record<string, string> = {
    "clip_ratio/low_mean": "clipFractionLow",
    "clip_ratio/high_mean": "clipFractionHigh",
    "clip_ratio/region_mean": "clipFractionRegion",
    "clip_ratio/low_min": "clipFractionLowMin",
    "clip_ratio/high_max": "clipFractionHighMax",
    cispo_clip_ratio: "cispoClipFraction",
    "ratio/mean": "ratioMean",
    kl: "klMean",
    entropy: "entropyMean",
  };
  for (const [name, theirs] of Object.entries(names)) {
    const truth = metrics[theirs];
    if (truth === undefined) continue;
    const allowed = { absolute: 2e-6 * (1 + Math.abs(truth)) };
    assertKnown("losses.json", `metric ${name}`, on, [own[name]], [truth], allowed, describeForm(form));
  }
}

describe("rl/policy-loss", (test) => {
  test("losses, gradients and metrics of TRL: every loss type, ratio level, KL, cap, entropy bonus and quantile that we have", async () => {
    const rows = known.losses.filter(isOurs);
    for (const [what, has] of [
      ["sequence-level ratios", (row: Form) => row.importanceLevel === "sequence"],
      ["a cap", (row: Form) => row.ratioCap !== null],
      ["SAPO", (row: Form) => row.lossType === "sapo"],
      ["LUSPO", (row: Form) => row.lossType === "luspo"],
      ["CISPO", (row: Form) => row.lossType === "cispo"],
      ["a KL penalty times the ratio", (row: Form) => row.klImportanceWeighted],
      ["a quantile", (row: Form) => row.topEntropyQuantile < 1],
      ["an entropy bonus", (row: Form) => row.entropyCoefficient > 0],
      ["a first pass", (row: Form) => row.ratioTo === "self"],
    ] as const)
      assert.ok(rows.some(has), `losses.json has no row with ${what}`);
    for (const row of rows)
      for (const on of await everyBackend()) {
        const batch = batchOf(row);
        const found = await evaluate(on.backend, on.dtype, batch, row, [...batch.mask.keys()], batch.mask);
        compare(on, row.section, found, row, row);
        if (row.ratioTo === "self")
          assert.ok(
            found.ratio.every((ratio) => ratio === 1),
            "a ratio is not 1",
          );
        if (row.kept)
          assert.equal(
            found.kept.map((one) => [...one]),
            row.kept.map((one, s) => one.filter((_, t) => batch.mask[s][t] === 1)),
            describeForm(row),
          );
        if (row.gradientEntropy)
          assertKnown(
            "losses.json",
            "gradient of the entropies",
            on.name,
            found.gradientEntropy.flat(),
            row.gradientEntropy.flatMap((one, s) => one.map((g, t) => (batch.mask[s][t] === 1 ? g : 0))),
            { ofScale: on.dtype === "f64" ? 1e-9 : 1e-6 },
            describeForm(row),
          );
        if (on.dtype === "f64" && row.ratioTo === "old") compareMetrics("host", batch, row, found, row.metrics);
      }
  });

  test("truncated completions without their tokens: they leave the token counts and stay among the sequences, as in TRL", async () => {
    const rows = known.truncated.filter(isOurs);
    assert.ok(rows.length > 0);
    for (const row of rows)
      for (const on of await everyBackend()) {
        const batch = batchOf(row);
        const masked = batch.mask.map((mask, s) => (row.truncated.includes(s) ? mask.map(() => 0) : mask));
        for (const [result, mask] of [
          [row.kept, batch.mask],
          [row.masked, masked],
        ] as const)
          compare(
            on,
            "truncated",
            await evaluate(on.backend, on.dtype, batch, row, [...mask.keys()], mask),
            result,
            row,
          );
      }
  });

  test("groups of equal rewards, kept and dropped", async () => {
    const rows = known.droppedGroups.filter(isOurs);
    assert.ok(rows.length > 0);
    for (const row of rows)
      for (const on of await everyBackend()) {
        const batch = batchOf(row);
        const all = [...batch.mask.keys()];
        const dropped = row.zeroVarianceGroups.flatMap((g) => batch.groups[g]);
        for (const [result, used] of [
          [row.kept, all],
          [row.dropped, all.filter((s) => !dropped.includes(s))],
        ] as const)
          compare(
            on,
            "dropped groups",
            await evaluate(on.backend, on.dtype, batch, row, used, batch.mask),
            result,
            row,
          );
      }
  });

  test("TRL's accumulated micro-batches are our whole batch, where TRL's own do not depend on them", async () => {
    const rows = known.accumulation.filter(
      (row) => isOurs(row) && row.sameAsWhole && row.microBatchesPerStep === row.microBatchesPerGeneration,
    );
    assert.ok(rows.length > 0);
    for (const row of rows)
      for (const on of await everyBackend()) {
        const batch = batchOf(row);
        const used = [...row.wholeGradient.keys()];
        const found = await evaluate(on.backend, on.dtype, batch, row, used, batch.mask);
        const truth = { loss: row.wholeLoss, gradient: row.wholeGradient, metrics: {} };
        compare(on, "accumulation", { ...found, gradient: found.gradient.slice(0, used.length) }, truth, row);
      }
  });

  test("the quantile keeps the tokens that are equal to it, and a share of 1 keeps all", () => {
    const lists = (kept: readonly Uint8Array[]) => kept.map((one) => [...one]);
    assert.equal(lists(topEntropyTokens([[1, 3], [], [2, 3, 0]], 0.5)), [[0, 1], [], [1, 1, 0]]);
    assert.equal(lists(topEntropyTokens([[1, 3], [], [2, 3, 0]], 0)), [[0, 1], [], [0, 1, 0]]);
    assert.equal(lists(topEntropyTokens([[1, 3], [], [2, 3, 0]], 1)), [[1, 1], [], [1, 1, 1]]);
    assert.equal(lists(topEntropyTokens([[], []], 0.5)), [[], []]);
  });
});

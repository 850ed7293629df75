import assert from "node:assert/strict";
import { surrogateOp } from "../../../../engine/ops/loss/surrogate.ts";
import { tokensPerWorkgroup } from "../../../../engine/ops/loss/weighted-sum.ts";
import { reference, testBackends } from "../../../backends.ts";
import { assertClose, describe, throwsMessage } from "../../../support.ts";
import { checkOp, normals } from "../../check-op.ts";
import { evaluate, everyBackend, type Tokens, usual } from "./surrogate-cases.ts";

/** Seeded tokens whose ratios keep off the bounds 0.8, 1.2, 1.5, 0.125 and 8, where central differences see a kink. */
function tokens(
  count: number,
  spread: number,
): { [K in keyof Required<Tokens>]: { shape: number[]; values: Float64Array } } {
  const shape = [count];
  const old = normals(1, count, 1, -2);
  const differences = normals(2, count, spread).map((d) => {
    const near = [0.8, 1.2, 1.5, 0.125, 8].some((bound) => Math.abs(d - Math.log(bound)) < 0.02);
    return near ? d + 0.05 : d;
  });
  return {
    logProbs: { shape, values: old.map((v, i) => Math.fround(v + differences[i])) },
    oldLogProbs: { shape, values: old },
    advantages: { shape, values: normals(3, count) },
    weights: { shape, values: normals(4, count).map((w, i) => (i % 5 === 3 ? 0 : Math.fround(Math.abs(w) / count))) },
    referenceLogProbs: { shape, values: old.map((v, i) => Math.fround(v + 0.3 * Math.sin(i))) },
  };
}

/** The same tokens with their log-ratios as an input of its own, and log-probabilities that are not tied to it. */
function logRatiosOf({ oldLogProbs, logProbs, ...others }: ReturnType<typeof tokens>) {
  const { shape, values } = logProbs;
  return {
    ...others,
    logRatios: { shape, values: values.map((v, i) => Math.fround(v - oldLogProbs.values[i])) },
    logProbs: { shape, values: oldLogProbs.values },
  };
}

describe("engine/ops/loss/surrogate", (test) => {
  const { referenceLogProbs: _, ...withoutReference } = tokens(61, 0.4);
  checkOp(test, surrogateOp, {
    settings: { ...usual, klCoefficient: 0.05 },
    cases: {
      "one token": tokens(1, 0.4),
      "prime size": tokens(61, 0.4),
      "as many as a workgroup": tokens(tokensPerWorkgroup, 0.4),
      "huge and tiny ratios": {
        inputs: tokens(61, 4),
        // e^x errs by 3 + 2·|x| units in the last place, |x| ≤ 16.
        tolerance: { forward: { ofScale: 5e-6 }, gradient: { ofScale: 5e-6 } },
      },
      "tiny differences": tokens(61, 1e-6),
      "a workgroup and one more": tokens(tokensPerWorkgroup + 1, 0.4),
      "several segments": tokens(9001, 0.4),
      "no tokens": tokens(0, 0.4),
      "other bounds": { inputs: tokens(90, 0.4), settings: { ...usual, clipLow: 0.2, clipHigh: 0.28 } },
      "without reference": { inputs: withoutReference, settings: usual },
      "two-sided clip": { inputs: tokens(90, 0.6), settings: { ...usual, ratioCap: 1.5, klCoefficient: 0.05 } },
      "soft gate": {
        inputs: tokens(300, 0.6),
        settings: { ...usual, kind: "sapo", sapoPositive: 1.5, sapoNegative: 2, klCoefficient: 0.05 },
      },
      "soft gate of huge and tiny ratios": {
        inputs: tokens(61, 4),
        settings: { ...usual, kind: "sapo" },
        // As above: exp of the ratio's error, which is relative.
        tolerance: { forward: { ofScale: 5e-6 }, gradient: { ofScale: 1e-5 } },
      },
      "penalty times ratio": {
        inputs: tokens(90, 0.4),
        settings: { ...usual, klCoefficient: 0.05, klTimesRatio: true },
      },
      "log-ratios": { inputs: logRatiosOf(tokens(90, 0.4)), settings: { ...usual, klCoefficient: 0.05 } },
      "log-ratios, cap and penalty times ratio": {
        inputs: logRatiosOf(tokens(300, 0.6)),
        settings: { ...usual, ratioCap: 1.5, klCoefficient: 0.05, klTimesRatio: true },
      },
    },
    // exp errs by 3 + 2·|x| units in the last place, times ratios of at most 5 and advantages of at most 4.
    tolerance: { forward: { absolute: 2e-5 }, gradient: { ofScale: 2e-6 } },
  });

  test("at equal log-probabilities the ratio is exactly 1, and a bound at 1 keeps the whole gradient", async () => {
    // PyTorch: of two equal arguments of minimum each takes half, and clamp passes the gradient at its bounds.
    const logProbs = normals(5, 300, 2, -3).map((v) => Math.min(v, -1e-3));
    const advantages = normals(6, 300);
    advantages[4] = 0;
    const weights = new Float64Array(300).fill(0.5);
    for (const { name, backend, dtype } of await everyBackend())
      for (const clip of [0, 0.2]) {
        const found = await evaluate(
          backend,
          { logProbs, oldLogProbs: logProbs, advantages, weights },
          { ...usual, clipLow: clip, clipHigh: clip },
          dtype,
        );
        assert.ok(
          found.ratio.every((rho) => rho === 1),
          `${name}: a ratio is not 1`,
        );
        assertClose(
          `${name}: gradient at clip ${clip}`,
          found.gradient,
          advantages.map((a) => -0.5 * a),
          { relative: 2 ** -23 },
        );
      }
  });

  test("outside the clip range the gradient is 0 where clipping counts and whole where it does not", async () => {
    const ratios = [0.5, 0.5, 1.5, 1.5, 0.9, 1.1];
    const given = {
      logProbs: ratios.map(Math.log),
      oldLogProbs: ratios.map(() => 0),
      advantages: [1, -1, 1, -1, -1, 1],
      weights: ratios.map(() => 1),
    };
    for (const { name, backend, dtype } of await everyBackend()) {
      const { objective, gradient } = await evaluate(backend, given, usual, dtype);
      assertClose(`${name}: objective`, objective, [0.5, -0.8, 1.2, -1.5, -0.9, 1.1], { absolute: 1e-6 });
      assertClose(`${name}: gradient`, gradient, [-0.5, 0, 0, 1.5, 0.9, -1.1], { absolute: 1e-6 });
    }
  });

  test("a cap: weights of CISPO by hand; the second bound of the clip acts on negative advantages, and ties take half", async () => {
    const ratios = [0.5, 1.1, 4, 4, 1.1, 6];
    const given = {
      logProbs: ratios.map(Math.log),
      oldLogProbs: ratios.map(() => 0),
      advantages: [1, -1, 1, -1, 2, -2],
      weights: ratios.map(() => 1),
    };
    for (const { name, backend, dtype } of await everyBackend()) {
      const cispo = await evaluate(backend, given, { ...usual, kind: "cispo", ratioCap: 3 }, dtype);
      const weights = [0.5, -1.1, 3, -3, 2.2, -6];
      assertClose(
        `${name}: cispo: objective`,
        cispo.objective,
        weights.map((w, i) => w * Math.log(ratios[i])),
        { absolute: 4e-6 },
      );
      assertClose(
        `${name}: cispo: gradient`,
        cispo.gradient,
        weights.map((w) => -w),
        { absolute: 2e-6 },
      );
      const clip = await evaluate(backend, given, { ...usual, ratioCap: 3 }, dtype);
      assertClose(`${name}: clip: objective`, clip.objective, [0.5, -1.1, 1.2, -3, 2.2, -6], { absolute: 2e-6 });
      assertClose(`${name}: clip: gradient`, clip.gradient, [-0.5, 1.1, 0, 0, -2.2, 0], { absolute: 2e-6 });
    }
  });

  test("the penalty is never negative and keeps its digits near 0", async () => {
    const d = Array.from({ length: 400 }, (_, i) => (i % 2 ? -1 : 1) * 10 ** (-4 + i / 80));
    const given = {
      logProbs: d.map(() => 0),
      oldLogProbs: d.map(() => 0),
      advantages: d.map(() => 0),
      weights: d.map(() => 1),
      referenceLogProbs: d,
    };
    const expected = Float64Array.from(d, (v) => {
      const x = Math.fround(v);
      // e^x − 1 − x by its series: all digits for small x
      let [term, sum] = [x, 0];
      for (let n = 2; n < 40; n++) sum += term *= x / n;
      return Math.abs(x) < 1 ? sum : Math.expm1(x) - x;
    });
    for (const { name, backend } of await testBackends()) {
      const { penalty, gradient } = await evaluate(backend, given, { ...usual, klCoefficient: 1 });
      assert.ok(
        penalty.every((v) => v > 0),
        `${name}: a penalty is not positive`,
      );
      // From ½ on, exp errs by 3 + 2·|x| units in the last place (23 at 10) and e^x is at most eleven times the result.
      assertClose(`${name}: penalty`, penalty, expected, { relative: 5e-6 });
      assertClose(
        `${name}: gradient`,
        gradient,
        d.map((v) => -Math.expm1(Math.fround(v))),
        { relative: 3e-6 },
      );
    }
  });

  test("what is masked may hold anything; a NaN that counts reaches loss and gradient", async () => {
    const { logProbs, oldLogProbs, advantages, weights, referenceLogProbs } = tokens(301, 0.4);
    const given = {
      logProbs: logProbs.values,
      oldLogProbs: oldLogProbs.values,
      advantages: advantages.values,
      weights: weights.values,
      referenceLogProbs: referenceLogProbs.values,
    };
    for (const kind of ["clipped", "masked-importance", "cispo", "sapo"] as const)
      for (const { name, backend, dtype } of await everyBackend()) {
        const settings = {
          ...usual,
          kind,
          ratioCap: kind === "cispo" ? 5 : 0,
          klCoefficient: kind === "clipped" ? 0 : 0.1,
        };
        const clean = await evaluate(backend, given, settings, dtype);
        // Weight 0 at 3, 8, 13, …
        const dirty = {
          ...given,
          logProbs: given.logProbs.map((v, i) =>
            i % 5 === 3 ? [Number.NaN, Number.NEGATIVE_INFINITY, 500][i % 3] : v,
          ),
        };
        const found = await evaluate(backend, dirty, settings, dtype);
        assert.equal(found.loss, clean.loss, `${name}: ${kind}`);
        assertClose(`${name}: ${kind}: gradient`, found.gradient, clean.gradient, {});
        const lost = await evaluate(
          backend,
          { ...given, logProbs: given.logProbs.map((v, i) => (i === 6 ? Number.NaN : v)) },
          settings,
          dtype,
        );
        assert.ok(Number.isNaN(lost.loss), `${name}: ${kind}: loss ${lost.loss}`);
        assert.ok(Number.isNaN(lost.gradient[6]), `${name}: ${kind}: gradient ${lost.gradient[6]}`);
        assert.equal(lost.gradient.filter(Number.isNaN).length, 1);
        for (const field of ["weights", "advantages"] as const) {
          const unknown = { ...given, [field]: given[field].map((v, i) => (i === 6 ? Number.NaN : v)) };
          const { loss, gradient } = await evaluate(backend, unknown, settings, dtype);
          assert.ok(Number.isNaN(loss), `${name}: ${kind}: NaN in ${field}: loss ${loss}`);
          assert.ok(Number.isNaN(gradient[6]), `${name}: ${kind}: NaN in ${field}: gradient ${gradient[6]}`);
          assert.equal(gradient.filter(Number.isNaN).length, 1);
        }
      }
  });

  test("refuses vectors of other lengths and a KL coefficient without reference", async () => {
    const { shapes } = surrogateOp.definition;
    const n = {
      logProbs: [5],
      oldLogProbs: [5],
      logRatios: [5],
      advantages: [5],
      weights: [5],
      referenceLogProbs: [5],
    };
    await throwsMessage(
      () => shapes({ ...n, advantages: [4] }, usual),
      "surrogate: advantages",
      "expected [5], got [4]",
    );
    await throwsMessage(() => shapes({ ...n, logProbs: [5, 1] }, usual), "expected [N], got [5,1]");
    await throwsMessage(() => shapes(n, usual), "expected oldLogProbs or logRatios, got both");
    const given = { logProbs: [0], oldLogProbs: [0], advantages: [1], weights: [1] };
    await throwsMessage(
      () => evaluate(reference, given, { ...usual, klCoefficient: 0.1 }),
      "referenceLogProbs",
      "got none",
      "0.1",
    );
  });
});

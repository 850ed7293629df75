// The search for the scale that reaches a KL, on functions whose answer is known.
import * as assert from "uvu/assert";
import { findScale, monotoneCubic } from "../../../landscape/measure/fixed-kl.ts";
import { assertClose, describe } from "../../support.ts";

const search = { tolerance: 0.05, mostPasses: 6, start: 0.05 };
const targets = [0.01, 0.03, 0.1, 0.3];

describe("landscape/measure/fixed-kl", (test) => {
  test("bowls, bends and steep walls: within 5% in six passes", async () => {
    const curves: Readonly<Record<string, (s: number) => number>> = {
      bowl: (s) => 20 * s * s,
      "bowl that is a thousand times wider": (s) => 2e-5 * s * s,
      "bowl that is narrow": (s) => 5e4 * s * s,
      "bends over, as KL of a policy that breaks": (s) => 2 * (1 - Math.exp(-40 * s * s)),
      "steep wall": (s) => 30 * s * s * Math.exp(25 * s),
      "straight at large scales": (s) => (50 * s * s) / (1 + 10 * s),
    };
    for (const [name, curve] of Object.entries(curves)) {
      for (const target of targets) {
        let passes = 0;
        const found = await findScale({ ...search, target }, async (scale) => {
          passes++;
          return curve(scale);
        });
        assert.is(found.passes.length, passes);
        assert.ok(passes <= 6 && found.scale !== null, `${name}, ${target}: ${JSON.stringify(found)}`);
        assert.ok(Math.abs(curve(found.scale ?? 0) / target - 1) <= 0.05, `${name}, ${target}`);
        assert.is(found.kl, curve(found.scale ?? 0), "the scale is one that was tried, to the bit");
      }
    }
  });

  test("a KL that no scale reaches is a gap with the nearest one, after six passes; numbers that are not finite are above", async () => {
    const flat = await findScale({ ...search, target: 0.3 }, async (s) => 0.2 * (1 - Math.exp(-s * s * 1e4)));
    assert.is(flat.scale, null);
    assert.is(flat.passes.length, 6);
    assert.ok(Math.abs((flat.kl ?? 0) - 0.2) < 1e-6);
    const jump = await findScale({ ...search, target: 0.1 }, async (s) => (s < 0.03 ? 0.001 : 5));
    assert.is(jump.scale, null);
    assert.is(jump.kl, 5, "ln 5 is nearer to ln 0.1 than ln 0.001 is");
    const broken = await findScale({ ...search, target: 0.01 }, async (s) => (s > 0.04 ? Number.NaN : 20 * s * s));
    assert.ok(Math.abs(20 * (broken.scale ?? 0) ** 2 - 0.01) <= 5e-4);
    assert.equal(
      broken.passes[0],
      [0.05, null].map((v, k) => (k === 0 ? broken.passes[0][0] : v)),
    );
    const still = await findScale({ ...search, target: 0.01 }, async () => 0);
    assert.equal([still.scale, still.kl], [null, 0]);
  });

  test("curves measured along random rays around the tiny model: each target from each start, in six passes", async () => {
    // ln KL at scale 0.004 · 150^(k / 31), k from 8; KL on 8 × 4 completions has such walls, where one token turns. With a straight
    // line between the ends of the bracket, and its middle after a step that did not halve it, 9 of these 48 searches fail.
    const first = 8;
    const step = Math.log(150) / 31;
    const measured = [
      [
        -6.88, -6.55, -6.22, -5.88, -5.53, -5.13, -4.18, -2.87, -2.2, -1.87, -1.65, -1.38, -0.96, -0.42, 0.07, 0.47,
        0.82, 1.19,
      ],
      [
        -6.97, -6.63, -6.28, -5.92, -5.55, -5.17, -4.77, -4.08, -2.95, -2.24, -1.86, -1.59, -1.29, -0.96, -0.57, -0.1,
        0.4, 0.87,
      ],
      [
        -6.93, -6.62, -6.31, -5.99, -5.67, -5.34, -5.0, -4.64, -4.21, -3.36, -2.33, -1.57, -1.0, -0.56, -0.14, 0.27,
        0.69, 1.08,
      ],
      [
        -5.86, -5.53, -5.2, -4.86, -4.47, -3.82, -3.0, -2.43, -2.04, -1.75, -1.5, -1.19, -0.91, -0.66, -0.37, -0.01,
        0.38, 0.83,
      ],
    ];
    for (const [curve, values] of measured.entries()) {
      const klAt = (scale: number): number => {
        const at = Math.log(scale / 0.004) / step - first;
        const k = Math.max(0, Math.min(values.length - 2, Math.floor(at)));
        return Math.exp(values[k] + (at - k) * (values[k + 1] - values[k]));
      };
      for (const start of [0.025, 0.05, 0.1])
        for (const target of targets) {
          const { scale, passes } = await findScale({ ...search, start, target }, async (s) => klAt(s));
          assert.ok(scale !== null, `curve ${curve}, from ${start} to ${target}: ${JSON.stringify(passes)}`);
          assert.ok(passes.length <= 6 && Math.abs(klAt(scale) / target - 1) <= 0.05);
        }
    }
  });

  test("the cubic between scales is SciPy's PchipInterpolator, x of y", () => {
    const through = (x: readonly number[], y: readonly number[]) => x.map((value, k) => ({ x: value, y: y[k] }));
    const three = through([0, 1, 4], [0, 2, 3]);
    const four = through([-3, -2.5, -1, 0.2], [-5, -4, -3.9, 1]);
    const two = through([1, 2], [10, 20]);
    assertClose(
      "SciPy 1.17",
      [
        ...[0.5, 2.5].map((y) => monotoneCubic(three, y)),
        ...[-4.5, -3.95, 0].map((y) => monotoneCubic(four, y)),
        monotoneCubic(two, 12),
      ],
      [0.06896551724137931, 2.1372126436781613, -2.9124015748031495, -1.7424868613700504, 0.18386613076550995, 1.2],
      { absolute: 1e-12 },
    );
  });
});

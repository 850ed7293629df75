import * as assert from "uvu/assert";
import { simulationRandom } from "../../../landscape/statistics/random.ts";
import {
  kendall,
  mean,
  partialPearson,
  partialSpearman,
  pearson,
  quantile,
  ranks,
  spearman,
  spread,
} from "../../../landscape/statistics/statistics.ts";
import {
  normalCumulative,
  normalDensity,
  normalQuantile,
  studentCumulative,
  studentQuantile,
} from "../../../rl/statistics/distributions.ts";
import { assertClose, assertKnown, describe, readFixture } from "../../support.ts";

interface Fixture {
  squaredRadius: number[][];
  correlations: {
    name: string;
    kl: number[][];
    reward: number[][];
    pearson: number | null;
    spearman: number | null;
    kendall?: number;
    partialPearson: number | null;
    partialSpearman: number | null;
  }[];
  quantiles: { values: number[]; levels: number[]; quantiles: number[] }[];
  spreads: {
    values: number[];
    mean: number;
    sampleDeviation: number;
    populationDeviation: number;
    standardError: number;
  }[];
}

const tolerance = { absolute: 1e-9 };

describe("landscape/statistics/statistics", (test) => {
  const fixture = readFixture<Fixture>("statistics.json");
  const z = fixture.squaredRadius.flat();
  const known = (quantity: string, got: ArrayLike<number>, expected: ArrayLike<number>, context?: string) =>
    assertKnown("statistics.json", quantity, "host", got, expected, tolerance, context);

  for (const entry of fixture.correlations)
    test(`correlations: ${entry.name}`, () => {
      const x = entry.kl.flat();
      const y = entry.reward.flat();
      const compare = (what: string, got: number | null, expected: number | null | undefined) => {
        if (expected === null || expected === undefined) assert.is(got, null, what);
        else known(`correlations: ${what}`, [got ?? Number.NaN], [expected], entry.name);
      };
      compare("pearson", pearson(x, y), entry.pearson);
      compare("spearman", spearman(x, y), entry.spearman);
      compare("kendall", kendall(x, y), entry.kendall);
      compare("partialPearson", partialPearson(x, y, z), entry.partialPearson);
      compare("partialSpearman", partialSpearman(x, y, z), entry.partialSpearman);
    });
  test("quantiles", () => {
    for (const { values, levels, quantiles } of fixture.quantiles)
      assertKnown(
        "statistics.json",
        "quantiles",
        "host",
        levels.map((level) => quantile(values, level)),
        quantiles,
        { relative: 1e-9, absolute: 1e-9 },
        `${values.length} values`,
      );
  });
  test("spreads", () => {
    for (const { values, ...expected } of fixture.spreads) {
      const got = spread(values);
      known("spreads: mean", [got.mean], [expected.mean]);
      known("spreads: sample deviation", [got.sampleDeviation ?? Number.NaN], [expected.sampleDeviation]);
      known("spreads: population deviation", [got.populationDeviation], [expected.populationDeviation]);
      known("spreads: standard error", [got.standardError ?? Number.NaN], [expected.standardError]);
    }
    assert.equal(spread([3]), { mean: 3, sampleDeviation: null, populationDeviation: 0, standardError: null });
  });
  test("constant to rounding is undefined; a spread of 1e-12 of the mean is not", () => {
    const x = [1, 2, 3, 4];
    const almost = [0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2]; // 0.30000000000000004 and 0.3
    assert.is(pearson(x, almost), null);
    assert.is(pearson(x, [0, 0, 0, 0]), null);
    assert.ok(
      (pearson(
        x,
        x.map((value) => 1 + value * 1e-12),
      ) ?? 0) > 0.999,
    );
    assert.is(pearson([1], [2]), null);
  });
  test("a partial correlation given what determines x is undefined", () =>
    assert.is(partialPearson([1, 2, 3, 4], [1, 3, 2, 5], [2, 4, 6, 8]), null));
  test("ranks of ties are their mean", () => assert.equal([...ranks([3, 1, 3, 2, 3])], [4, 1, 4, 2, 4]));
});

describe("landscape/statistics/distributions", (test) => {
  test("normal: published values", () => {
    // Abramowitz & Stegun table 26.1 and its percentage points.
    assertClose(
      "Φ",
      [0, 1, -1, 2, 3].map(normalCumulative),
      [0.5, 0.841344746068543, 0.158655253931457, 0.977249868051821, 0.99865010196837],
      { absolute: 1e-14 },
    );
    assertClose("Φ⁻¹", [0.5, 0.975, 0.95].map(normalQuantile), [0, 1.959963984540054, 1.6448536269514722], {
      absolute: 1e-13,
    });
    assertClose("φ(0)", [normalDensity(0)], [0.3989422804014327], { absolute: 1e-15 });
    assertClose("tails", [normalCumulative(-9), normalCumulative(9)], [0, 1], {});
  });
  test("Student's t: published values", () => {
    const degrees = [1, 2, 4, 9, 10, 60];
    const expected = [12.7062047362, 4.3026527297, 2.7764451052, 2.2621571628, 2.228138852, 2.0002978221];
    assertClose(
      "97.5%",
      degrees.map((of) => studentQuantile(0.975, of)),
      expected,
      { absolute: 1e-9 },
    );
    assertClose("towards the normal", [studentQuantile(0.975, 200_000)], [1.959963984540054], { absolute: 2e-5 });
  });
  test("the quantile undoes the cumulative", () => {
    for (const degrees of [1, 2, 3, 8, 63, 1023])
      for (const t of [0.1, 1, 3.9])
        assertClose(
          `${degrees} degrees`,
          [studentQuantile(studentCumulative(t, degrees), degrees)],
          [t],
          // p near 1 has 1.1e-16 of absolute room; the density at t = 3.9 is above 1e-4.
          { absolute: 1e-11 },
        );
  });
});

describe("landscape/statistics/random", (test) => {
  const draw = (seed: number, stream = 0, count = 6) => {
    const random = simulationRandom(seed, stream);
    return Array.from({ length: count }, () => random.uniform());
  };
  test("the same seed repeats; seeds and streams differ", () => {
    assert.equal(draw(7), draw(7));
    const firsts = [draw(7), draw(8), draw(7, 1), draw(7 + 2 ** 32), draw(0)].map((of) => of[0]);
    assert.is(new Set(firsts).size, firsts.length);
  });
  test("words are sfc32's", () => {
    // The same recurrence in exact integers, from Doty-Humphrey's definition: out = a + b + counter++;
    // a = b ^ b>>9; b = c + c<<3; c = rotate(c, 21) + out; all modulo 2³².
    const seed = 123_456_789_012;
    const modulus = 2n ** 32n;
    let [a, b, c, counter] = [BigInt(seed) % modulus, BigInt(seed) / modulus, 5n, 1n];
    const words: bigint[] = [];
    for (let k = 0; k < 20; k++) {
      const out = (a + b + counter++) % modulus;
      a = b ^ (b >> 9n);
      b = (c + (c << 3n)) % modulus;
      c = ((((c << 21n) % modulus) | (c >> 11n)) + out) % modulus;
      words.push(out);
    }
    assert.equal(
      draw(seed, 5, 5),
      words.slice(15).map((word) => (Number(word) + 0.5) * 2 ** -32),
    );
  });
  test("normals by the list are those one by one, to the bit, wherever a list begins and ends", () => {
    const [one, many] = [simulationRandom(11, 3), simulationRandom(11, 3)];
    const list = new Float64Array(9);
    for (const count of [1, 4, 3, 9, 0, 2, 5, 8]) {
      many.normals(list, count);
      assert.equal(
        Array.from(list.subarray(0, count)),
        Array.from({ length: count }, () => one.normal()),
      );
      assert.is(many.uniform(), one.uniform());
    }
  });
  test("uniforms and normals have their moments, and integers are even", () => {
    const random = simulationRandom(3);
    const n = 100_000;
    const uniforms = Float64Array.from({ length: n }, () => random.uniform());
    const normals = Float64Array.from({ length: n }, () => random.normal());
    const counts = new Float64Array(7);
    for (let k = 0; k < n; k++) counts[random.integer(7)]++;
    // Five standard errors: of a uniform's mean 1/√(12n), of a normal's mean 1/√n and variance √(2/n).
    assertClose("uniform mean", [mean(uniforms)], [0.5], { absolute: 5 / Math.sqrt(12 * n) });
    assertClose("mean", [mean(normals)], [0], { absolute: 5 / Math.sqrt(n) });
    assertClose("variance", [spread(normals).populationDeviation ** 2], [1], { absolute: 5 * Math.sqrt(2 / n) });
    assertClose("fourth", [mean(normals.map((x) => x ** 4))], [3], { absolute: 5 * Math.sqrt(96 / n) });
    assertClose("below 1", [normals.filter((x) => x < 1).length / n], [normalCumulative(1)], {
      absolute: (5 * 0.37) / Math.sqrt(n),
    });
    assertClose("neighbours", [pearson(normals.slice(1), normals.slice(0, -1)) ?? 1], [0], {
      absolute: 5 / Math.sqrt(n),
    });
    assertClose("counts", counts, new Array(7).fill(n / 7), { absolute: 5 * Math.sqrt((n / 7) * (6 / 7)) });
  });
});

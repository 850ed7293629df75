// The tape itself: what it adds up, where it assigns, what it leaves alone, and that it leaves nothing behind. The ops in
// here are simple ones, whose own gradients are checked beside them.
import * as assert from "uvu/assert";
import { accumulateKernel } from "../../engine/accumulate.ts";
import { GradientMap, type GradientStore, noGradient, recompute, record, reshape } from "../../engine/autograd.ts";
import { defineOp } from "../../engine/op.ts";
import { weightedSum } from "../../engine/ops/loss/weighted-sum.ts";
import { rmsNormOp } from "../../engine/ops/rms-norm/rms-norm.ts";
import { swiglu } from "../../engine/ops/swiglu/swiglu.ts";
import { fromArray, readTensors, type Tensor } from "../../engine/tensor.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";
import {
  given,
  gradients,
  leaf,
  onEach,
  rounding,
  shape,
  size,
  sum,
  times,
  twice,
  upstream,
  upstreamTimes,
} from "./autograd-cases.ts";
import { normals, sameBits } from "./check-op.ts";

/** Targets that hold something beforehand. */
class FilledStore implements GradientStore {
  readonly #targets: ReadonlyMap<Tensor, Tensor>;
  readonly #begun: Set<Tensor>;
  constructor(targets: ReadonlyMap<Tensor, Tensor>, areBegun: boolean) {
    this.#targets = targets;
    this.#begun = new Set(areBegun ? targets.keys() : []);
  }
  target(x: Tensor): Tensor | undefined {
    return this.#targets.get(x);
  }
  has(x: Tensor): boolean {
    return this.#begun.has(x);
  }
  mark(x: Tensor): void {
    this.#begun.add(x);
  }
}

/** a = 2x, b = −3x; notes what its vjp was given. */
const seen: { calls: number; targets: string[] } = { calls: 0, targets: [] };
const split = defineOp<"x" | "fixed", "a" | "b">({
  name: "split",
  optional: ["fixed"],
  constants: ["fixed"],
  shapes: ({ x }) => ({ a: x, b: x }),
  forward: (run, { x }, { a, b }) => {
    run(accumulateKernel, { x, y: { tensor: a, add: false } }, { rowSize: x.rowSize, factor: 2 });
    run(accumulateKernel, { x, y: { tensor: b, add: false } }, { rowSize: x.rowSize, factor: -3 });
  },
  vjp: (run, { x }, { a, b }, d) => {
    seen.calls++;
    seen.targets = Object.keys(d);
    if (d.x === undefined) return;
    run(accumulateKernel, { x: a, y: d.x }, { rowSize: x.rowSize, factor: 2 });
    run(accumulateKernel, { x: b, y: { ...d.x, add: true } }, { rowSize: x.rowSize, factor: -3 });
  },
});

describe("engine/autograd", (test) => {
  test("a tensor used twice receives both gradients", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      // As leaf, in two places: 2 − ½ + 1.
      const [asLeaf] = await gradients([x], () => sum(sum(twice(x), times(x, -0.5)), x));
      assertClose(`${name}: leaf`, asLeaf ?? [], upstreamTimes(2.5), rounding);
      // As something that an op made: 2 · (3 + 1).
      const [asMade] = await gradients([x], () => {
        const h = twice(x);
        return sum(times(h, 3), h);
      });
      assertClose(`${name}: made`, asMade ?? [], upstreamTimes(8), rounding);
    }));

  test("a tensor that is two inputs of one op receives both gradients", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      const [double] = await gradients([x], () => sum(x, x));
      sameBits(`${name}: x + x`, double, Float32Array.from(upstreamTimes(2)));
      const other = leaf(backend, 1);
      const [gate, up] = await gradients([x, other], () => swiglu(x, other));
      const [both] = await gradients([x], () => swiglu(x, x));
      sameBits(
        `${name}: swiglu(x, x)`,
        both,
        Float32Array.from(gate ?? [], (v, i) => v + (up?.[i] ?? Number.NaN)),
      );
      const [made] = await gradients([x], () => {
        const h = times(x, 1);
        return swiglu(h, h);
      });
      sameBits(`${name}: swiglu(h, h)`, made, both ?? new Float32Array());
    }));

  test("the first gradient of a leaf is assigned, or added to what was begun, and the rest are added", () =>
    onEach(async (backend, name) => {
      const bodies: Record<string, { body: (x: Tensor) => Tensor; factor: number }> = {
        once: { body: twice, factor: 2 },
        "three times": { body: (x) => sum(sum(twice(x), x), times(x, 4)), factor: 7 },
        "twice in one op": { body: (x) => sum(x, x), factor: 2 },
        "by views": { body: (x) => twice(sum(reshape(x, [size]), reshape(x, [size]))), factor: 4 },
        "by a view alone": { body: (x) => reshape(x, [size]), factor: 1 },
        "recomputed, twice": { body: (x) => recompute("part", x, (h) => sum(twice(h), h)), factor: 3 },
      };
      for (const [what, { body, factor }] of Object.entries(bodies))
        for (const isBegun of [false, true]) {
          const x = leaf(backend, 1);
          const before = isBegun ? normals(5, size) : new Float64Array(size).fill(Number.NaN);
          const target = fromArray(backend, before, shape);
          const recording = record(() => body(x));
          const seed = fromArray(backend, upstream, recording.result.shape);
          recording.backward(new Map([[recording.result, seed]]), new FilledStore(new Map([[x, target]]), isBegun));
          const expected = upstreamTimes(factor).map((v, i) => v + (isBegun ? before[i] : 0));
          assertClose(`${name}: ${what}, begun: ${isBegun}`, await target.read(), expected, rounding);
        }
    }));

  test("gradients pass through views of leaves, of what ops made, and of views", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      const fold = [150, 6, 8];
      const bodies: Record<string, { body: () => Tensor; factor: number }> = {
        "a view of a leaf": { body: () => twice(reshape(x, fold)), factor: 2 },
        "a view at the end": { body: () => reshape(twice(x), fold), factor: 2 },
        "a view of a view": { body: () => twice(reshape(reshape(x, fold), shape)), factor: 2 },
        "two views and the tensor itself": {
          body: () => {
            const h = times(x, 3);
            return sum(reshape(sum(reshape(h, fold), reshape(h, fold)), shape), h);
          },
          factor: 9,
        },
        // Gradients of [7200] are cut at 4096 elements, where no row of [150, 48] ends: they are copied, not looked at.
        "a view whose gradient has cuts of its own": { body: () => times(reshape(times(x, 3), [size]), 5), factor: 15 },
        "two such views": {
          body: () => {
            const h = times(x, 3);
            return sum(times(reshape(h, [size]), 5), twice(reshape(h, [size])));
          },
          factor: 21,
        },
        "the tensor first, then its view": {
          body: () => {
            const h = times(x, 3);
            const folded = reshape(h, fold);
            return sum(twice(h), reshape(times(folded, 5), shape));
          },
          factor: 21,
        },
      };
      for (const [what, { body, factor }] of Object.entries(bodies)) {
        const [dx] = await gradients([x], body);
        assertClose(`${name}: ${what}`, dx ?? [], upstreamTimes(factor), rounding);
      }
    }));

  test("several outputs have seeds, which stay as they are, and a recording can be walked again", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      const recording = record(() => {
        const y = twice(x);
        return { y, view: reshape(y, [size]), z: times(y, 3) };
      });
      const { y, view, z } = recording.result;
      const seeds = new Map([y, view, z].map((output, i) => [output, given(backend, 20 + i, output.shape)]));
      const store = new GradientMap([x]);
      for (let passes = 1; passes <= 2; passes++) {
        recording.backward(seeds, store);
        const [dx, ...kept] = await readTensors([store.get(x) ?? y, ...seeds.values()]);
        const [sy, sv, sz] = [20, 21, 22].map((seed) => normals(seed, size));
        const expected = sy.map((v, i) => passes * 2 * (v + sv[i] + 3 * sz[i]));
        assertClose(`${name}: pass ${passes}`, dx, expected, rounding);
        kept.forEach((values, i) => {
          sameBits(`${name}: seed ${i}`, values, Float32Array.from(normals(20 + i, size)));
        });
      }
      store.free();
    }));

  test("an output without upstream counts as zero, an op without any is passed over", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      for (const [output, factor] of [
        ["a", 2],
        ["b", -3],
      ] as const) {
        const [dx] = await gradients([x], () => split({ x, fixed: null }, {})[output]);
        assertClose(`${name}: ${output}`, dx ?? [], upstreamTimes(factor), rounding);
      }
      const [both] = await gradients([x], () => {
        const { a, b } = split({ x, fixed: null }, {});
        return sum(a, b);
      });
      assertClose(`${name}: a + b`, both ?? [], upstreamTimes(-1), rounding);
      const calls = seen.calls;
      await gradients([x], () => {
        split({ x, fixed: null }, {});
        return twice(x);
      });
      assert.is(seen.calls, calls, name);
    }));

  test("only what is wanted and followed has a gradient", () =>
    onEach(async (backend, name) => {
      const [x, unwanted, apart] = [1, 2, 3].map((seed) => leaf(backend, seed));
      const plain = given(backend, 4);
      const [dx, dApart, dPlain] = await gradients([x, apart, plain], () => sum(sum(x, unwanted), plain));
      assertClose(`${name}: wanted`, dx ?? [], upstream, rounding);
      assert.is(dApart, undefined, `${name}: the loss does not depend on it`);
      assert.is(dPlain, undefined, `${name}: wanted, but not followed`);

      // Inputs that an op takes as given.
      const [, dFixed] = await gradients([x, apart], () => split({ x, fixed: apart }, {}).a);
      assert.is(dFixed, undefined, `${name}: constant`);
      assert.equal(seen.targets, ["x"]);
      assert.not.ok(record(() => split({ x: plain, fixed: apart }, {}).a).result.requiresGradient);
      await gradients([apart], () => split({ x, fixed: null }, {}).a);
      assert.equal(seen.targets, [], `${name}: no target for what nobody wants`);
    }));

  test("outside a recording, and under noGradient, nothing is followed", () =>
    onEach(async (backend, name) => {
      const x = leaf(backend, 1);
      assert.not.ok(twice(x).requiresGradient, name);
      const [dx] = await gradients([x], () => {
        const cut = noGradient(() => times(x, 100));
        assert.not.ok(cut.requiresGradient || noGradient(() => reshape(x, [size])).requiresGradient, name);
        assert.throws(() => noGradient(() => reshape(x, [1])));
        return sum(twice(x), cut); // the tape goes on, also after an error
      });
      assertClose(name, dx ?? [], upstreamTimes(2), rounding);
      assert.throws(() => record(() => reshape(x, [1])));
      assert.not.ok(twice(x).requiresGradient, `${name}: after an error in a recording`);
    }));

  test("micro-batches add up", () =>
    onEach(async (backend, name) => {
      const weight = leaf(backend, 1, [48]);
      const batch = (seed: number) => {
        const recording = record(() => rmsNormOp({ x: given(backend, seed), weight }, { eps: 1e-6 }).y);
        return { recording, seeds: new Map([[recording.result, given(backend, seed + 100)]]) };
      };
      const alone: ArrayLike<number>[] = [];
      const store = new GradientMap([weight]);
      assert.is(store.get(weight), undefined);
      for (const seed of [10, 11, 12]) {
        const { recording, seeds } = batch(seed);
        const own = new GradientMap([weight]);
        recording.backward(seeds, own);
        recording.backward(seeds, store);
        alone.push((await own.get(weight)?.read()) ?? []);
        own.free();
      }
      const expected = Float64Array.from(alone[0], (_, i) => alone.reduce((total, d) => total + d[i], 0));
      assertClose(name, (await store.get(weight)?.read()) ?? [], expected, rounding);
      store.free();
    }));

  test("views and rows of a tensor pass gradients on, however they are made", () =>
    onEach(async (backend, name) => {
      const values = normals(1, size);
      const seed = upstream;
      const from = 33;
      const count = 70;
      const row = shape[1];
      const inside = (i: number): boolean => i >= from * row && i < (from + count) * row;
      /** d of Σ seed · (rows from … of x, times 3). */
      const ofRows = values.map((_, i) => (inside(i) ? 3 * seed[i - from * row] : 0));
      for (const [made, make] of [
        ["leaf", (x: Tensor) => x],
        ["made by an op", (x: Tensor) => times(x, 1)],
        ["a view", (x: Tensor) => x.view([150, 6, 8]).view(shape)],
      ] as const) {
        const x = leaf(backend, 1);
        const [viewed] = await gradients([x], () => make(x).view([size]));
        const [reshaped] = await gradients([x], () => reshape(make(x), [size]));
        assertClose(`${name}: ${made}: view`, viewed ?? [], upstream, rounding);
        sameBits(`${name}: ${made}: reshape is view`, viewed, reshaped ?? new Float32Array());
        const [dx] = await gradients([x], () => times(make(x).sliceRows(from, count), 3));
        assertClose(`${name}: ${made}: rows`, dx ?? [], ofRows, rounding);
        // All rows are the tensor itself.
        const [all] = await gradients([x], () => make(x).sliceRows(0, 150));
        assertClose(`${name}: ${made}: all rows`, all ?? [], upstream, rounding);
        // Rows that overlap, and the tensor beside them.
        const [both] = await gradients([x], () => {
          const h = make(x);
          return sum(sum(h.sliceRows(from, count), h.sliceRows(from + 1, count)), times(h, 2).sliceRows(0, count));
        });
        const expected = values.map((_, i) =>
          [from, from + 1, 0]
            .map((first) => i - first * row)
            .reduce((total, at, k) => total + (at >= 0 && at < count * row ? (k === 2 ? 2 : 1) * seed[at] : 0), 0),
        );
        assertClose(`${name}: ${made}: overlapping rows`, both ?? [], expected, rounding);
      }
      // Inside a recomputed part, onto a leaf that holds something.
      const x = leaf(backend, 1);
      const target = fromArray(backend, normals(5, size), shape);
      const recording = record(() => recompute("part", x, (h) => times(h.sliceRows(from, count), 3)));
      recording.backward(
        new Map([[recording.result, given(backend, 77, recording.result.shape)]]),
        new FilledStore(new Map([[x, target]]), true),
      );
      assertClose(
        `${name}: begun`,
        await target.read(),
        normals(5, size).map((v, i) => v + ofRows[i]),
        rounding,
      );
      // Nothing is followed outside of a recording.
      assert.not.ok(x.view([size]).requiresGradient || x.sliceRows(0, 1).requiresGradient, name);
      assert.not.ok(record(() => given(backend, 1).sliceRows(0, 1)).result.requiresGradient, name);
    }));

  test("without seeds, a result of one number has the seed 1", () =>
    onEach(async (backend, name) => {
      const [x, weights] = [leaf(backend, 1, [5]), leaf(backend, 2, [5])];
      const loss = (): Tensor => weightedSum(x, weights);
      const found = record(loss).backward();
      assertClose(`${name}: dx`, (await found.get(x)?.read()) ?? [], normals(2, 5), rounding);
      assertClose(`${name}: dweights`, (await found.get(weights)?.read()) ?? [], normals(1, 5), rounding);
      found.free();
      const only = new GradientMap([x]);
      assert.is(record(loss).backward(only), only);
      assertClose(`${name}: dx alone`, (await only.get(x)?.read()) ?? [], normals(2, 5), rounding);
      assert.is(only.get(weights), undefined, name);
      only.free();
      await throwsMessage(() => record(() => twice(x)).backward(), "result is [5]", "one number", "seeds");
      await throwsMessage(() => record(() => [loss()]).backward(), "not a tensor", "seeds");
    }));
});

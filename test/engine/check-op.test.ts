// That checkOp finds what it looks for: an op that is sound passes, and each of many faults is named.
import assert from "node:assert/strict";
import { defineKernel } from "../../engine/kernel.ts";
import { defineOp, type Op, type OpDefinition } from "../../engine/op.ts";
import { keep, scope } from "../../engine/scope.ts";
import { empty, type Tensor } from "../../engine/tensor.ts";
import { testBackends } from "../backends.ts";
import { describe, type Test, throwsMessage } from "../support.ts";
import { edges } from "./central-differences.ts";
import { checkOp, type InputSpec } from "./check-op.ts";

const nowhere = 0xffffffff;

const forwardKernel = defineKernel({
  name: "weighed",
  axes: { rows: "map" },
  bindings: {
    x: { access: "read", axis: "rows" },
    w: { access: "read", axis: "rows" },
    y: { access: "write", axis: "rows" },
    z: { access: "write", axis: "rows" },
  },
  params: { rowSize: "u32", isAbsolute: "u32", skipped: "u32", factor: "f32" },
  cpu: ({ x, w, y, z }, { rows, rowSize, isAbsolute, skipped, factor }) => {
    for (let i = 0; i < rows * rowSize; i++) {
      if (i === skipped) continue;
      y[i] = (isAbsolute ? Math.abs(x[i]) : x[i]) * w[i] * factor;
      z[i] = x[i] ** 2 * w[i];
    }
  },
  wgsl: new URL("./weighed.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ rows, rowSize }) => [Math.ceil((rows * rowSize) / 64)],
});

const backwardKernel = defineKernel({
  name: "weighedBackward",
  axes: { rows: "map" },
  bindings: {
    dy: { access: "read", axis: "rows" },
    dz: { access: "read", axis: "rows" },
    x: { access: "read", axis: "rows" },
    w: { access: "read", axis: "rows" },
    dx: { access: "gradient", axis: "rows" },
    dw: { access: "gradient", axis: "rows" },
  },
  params: { rowSize: "u32", isAbsolute: "u32", wrong: "u32" },
  cpu: ({ dy, dz, x, w, dx, dw }, { rows, rowSize, isAbsolute, wrong, addToDx, addToDw }) => {
    for (let i = 0; i < rows * rowSize; i++) {
      const s = isAbsolute ? Math.sign(x[i]) : 1;
      const own = s * w[i] * dy[i] + 2 * x[i] * w[i] * dz[i] + (i === wrong ? 1e-3 : 0);
      dx[i] = (addToDx ? dx[i] : 0) + own;
      dw[i] = (addToDw ? dw[i] : 0) + s * x[i] * dy[i] + x[i] ** 2 * dz[i];
    }
  },
  wgsl: new URL("./weighed-backward.wgsl", import.meta.url),
  uses: ["flat-workgroup"],
  workgroups: ({ rows, rowSize }) => [Math.ceil((rows * rowSize) / 64)],
});

type Definition = OpDefinition<"x" | "w", "y" | "z", never, { isAbsolute: 0 | 1 }>;
type WeighedOp = Op<"x" | "w", "y" | "z", never, { isAbsolute: 0 | 1 }>;
type Vjp = NonNullable<Definition["vjp"]>;

interface Faults {
  skipped?: number;
  factor?: number;
  wrong?: number;
}

const forwardWith =
  (faults: (x: Tensor) => Faults): Definition["forward"] =>
  (run, { x, w }, { y, z }, { isAbsolute }) => {
    const { skipped = nowhere, factor = 1 } = faults(x);
    run(forwardKernel, { x, w, y, z }, { rowSize: x.rowSize, isAbsolute, skipped, factor });
  };

/** The gradient that nobody asked for goes into a tensor that is dropped. */
const vjpWith =
  (faults: (x: Tensor) => Faults): Vjp =>
  (run, { x, w }, { y: dy, z: dz }, d, { isAbsolute }) =>
    scope(() => {
      const discard = () => ({ tensor: empty(x.backend, x.shape, x.dtype), add: false });
      const { wrong = nowhere } = faults(x);
      const targets = { dx: d.x ?? discard(), dw: d.w ?? discard() };
      run(backwardKernel, { dy, dz, x, w, ...targets }, { rowSize: x.rowSize, isAbsolute, wrong });
    });

const sound: Definition & { vjp: Vjp } = {
  name: "weighed",
  shapes: ({ x }) => ({ y: x, z: x }),
  forward: forwardWith(() => ({})),
  vjp: vjpWith(() => ({})),
};

const weighed = (faults: Partial<Definition> = {}): WeighedOp => defineOp({ ...sound, ...faults });

const small = { x: [3, 67], w: [3, 67] };
const large = { x: [90, 64], w: [90, 64] };

/** Every case of an op through checkOp. */
async function check(op: WeighedOp, cases: Record<string, { x: InputSpec; w: InputSpec }>, isAbsolute: 0 | 1 = 0) {
  const bodies: (() => unknown)[] = [];
  const collect: Test = Object.assign((_: string, body: () => unknown) => void bodies.push(body), {
    skip: () => {},
    after: () => {},
  });
  // Three roundings of products within the scale; faults are of a thousandth, or of 2⁻²⁰ where only bits tell.
  const tolerance = { forward: { ofScale: 2e-6 }, gradient: { ofScale: 2e-6 } };
  checkOp(collect, op, { settings: { isAbsolute }, cases, tolerance });
  for (const body of bodies) await body();
}

describe("engine/check-op", (test) => {
  const finds = (what: string, faults: Partial<Definition>, cases: Record<string, typeof small>, ...texts: string[]) =>
    test(`finds ${what}`, () => throwsMessage(() => check(weighed(faults), cases), ...texts));
  const isF32 = (x: Tensor): boolean => x.dtype === "f32";
  const onDevice = (x: Tensor): boolean => x.backend.kind === "webgpu";

  test("passes a sound op", () => check(weighed(), { small, large, nothing: { x: [0, 5], w: [0, 5] } }));

  finds(
    "a wrong element of a gradient",
    { vjp: vjpWith(() => ({ wrong: 100 })) },
    { small },
    "dx: element 100: central",
  );
  finds(
    "a wrong element at the edge of a tile, where not all are checked",
    { vjp: vjpWith(() => ({ wrong: 16 * 64 })) },
    { large },
    "dx: element 1024: central differences",
  );
  finds(
    "a wrong element on the device alone",
    { vjp: vjpWith((x) => (onDevice(x) ? { wrong: 64 } : {})) },
    { small },
    ...["dx for upstream", "element 64 of 201"],
  );
  finds(
    "a wrong element in segments alone",
    { vjp: vjpWith((x) => (x.segments.length > 1 ? { wrong: 64 } : {})) },
    { large },
    "16 KiB segments: large: dx for upstream",
    "element 64 of 5760",
  );
  finds(
    "an element that the device does not write",
    { forward: forwardWith((x) => (onDevice(x) ? { skipped: 200 } : {})) },
    { small },
    ...[": y: element 200 of 201", "got NaN"],
  );
  finds(
    "a gradient that is assigned where it should be added",
    {
      vjp: (run, saved, upstream, d, settings) =>
        sound.vjp(run, saved, upstream, d.x ? { ...d, x: { ...d.x, add: false } } : d, settings),
    },
    { small },
    "dx for upstream",
    "dx added",
  );
  finds(
    "a gradient that goes by the other one's flag",
    {
      vjp: (run, saved, upstream, d, settings) => {
        const x = d.x && d.w ? { ...d.x, add: d.w.add } : d.x;
        sound.vjp(run, saved, upstream, { ...(x && { x }), ...(d.w && { w: d.w }) }, settings);
      },
    },
    { small },
    "dx added, dw assigned",
  );
  finds(
    "a gradient that is wrong when it is the only one asked for",
    {
      vjp: (run, saved, upstream, d, settings) =>
        (d.w ? sound.vjp : vjpWith(() => ({ wrong: 7 })))(run, saved, upstream, d, settings),
    },
    { small },
    "dx assigned, dw unasked",
    "element 7",
  );
  finds(
    "a gradient that is not written",
    { vjp: (run, saved, upstream, { x }, settings) => sound.vjp(run, saved, upstream, x ? { x } : {}, settings) },
    { small },
    "dw for upstream {y}: element 0 of 201 is NaN",
  );
  finds(
    "an upstream gradient that is left out",
    { vjp: (run, saved, { y }, d, settings) => sound.vjp(run, saved, { y, z: y }, d, settings) },
    { small },
    "central differences",
  );
  finds(
    "one tensor as two inputs that gets half of its gradient",
    {
      vjp: (run, saved, upstream, d, settings) =>
        sound.vjp(run, saved, upstream, saved.x === saved.w && d.x ? { x: d.x } : d, settings),
    },
    { small },
    "x and w one tensor",
  );

  let calls = 0;
  const jitter = (x: Tensor): Faults => ({ factor: isF32(x) && calls++ % 2 === 1 ? 1 + 2 ** -20 : 1 });
  finds("an output of other bits the second time", { forward: forwardWith(jitter) }, { small }, "y twice: element 0");
  finds(
    "the same in an op without gradient",
    { forward: forwardWith(jitter), vjp: undefined },
    { small },
    "y twice: element 0",
  );

  finds(
    "a shape that kernels do not fill",
    { shapes: ({ x }) => ({ y: [x[0], x[1] + 1], z: x }) },
    { small },
    ...["y: element 201 of 204", "was not written"],
  );
  finds(
    "a shape that kernels overfill",
    { shapes: ({ x }) => ({ y: x, z: [x[0], x[1] - 1] }) },
    { small },
    ...["weighed: z: index 198 of 198 elements"],
  );

  test("finds elements that the device writes beyond a gradient's end", () => {
    const vjp: Vjp = (run, { x, w }, { y: dy, z: dz }, d, { isAbsolute }) => {
      const discard = () => ({ tensor: empty(x.backend, x.shape, x.dtype), add: false });
      const rowSize = x.rowSize + (onDevice(x) ? 1 : 0);
      run(
        backwardKernel,
        { dy, dz, x, w, dx: d.x ?? discard(), dw: d.w ?? discard() },
        { rowSize, isAbsolute, wrong: nowhere },
      );
    };
    return throwsMessage(() => check(weighed({ vjp }), { small }), "dx: element 201 was written, of 201");
  });

  test("finds buffers that are left behind", async () => {
    const left: Tensor[] = [];
    const forward: Definition["forward"] = (run, inputs, outputs, settings) => {
      left.push(keep(empty(inputs.x.backend, [64])));
      sound.forward(run, inputs, outputs, settings);
    };
    await throwsMessage(() => check(weighed({ forward }), { small }), "buffers left behind");
    for (const tensor of left) tensor.free();
  });

  test("a failed check leaves nothing behind", async () => {
    const found = await testBackends();
    const live = () => found.map(({ backend }) => backend.statistics().liveBuffers);
    const earlier = live();
    await throwsMessage(
      () => check(weighed({ vjp: vjpWith((x) => (onDevice(x) ? { wrong: 64 } : {})) }), { small }),
      "dx",
    );
    assert.deepEqual(live(), earlier);
  });

  test("draws another point where one is on a kink or near it, and finds a fault all the same", async () => {
    const x = { shape: [2, 5], values: [0, 1e-5, -3e-5, 1, -2, 3e-9, 0.5, -0.25, 0, 1e-4] };
    const w = { shape: [2, 5], values: [1, -2, 3, 1, 0.5, 4, -1, 2, -3, 1] };
    await check(weighed(), { "on kinks": { x, w } }, 1);
    await throwsMessage(
      () => check(weighed({ vjp: vjpWith(() => ({ wrong: 2 })) }), { "on kinks": { x, w } }, 1),
      "dx: element 2: central differences",
    );
  });

  test("elements at the ends and tile edges of every axis, and no more than are paid for", () => {
    const all = edges([20, 24], 1);
    for (const element of [0, 479, 7, 8, 7 * 24, 8 * 24, 15 * 24 + 23, 16 * 24 + 23, 19 * 24 + 7])
      assert.ok(all.includes(element), `element ${element} of ${all}`);
    const few = edges([2000, 300], 10 ** 9);
    assert.equal(few.length, 8);
    assert.deepEqual([few[0], few[7]], [0, 599_999]);
  });
});

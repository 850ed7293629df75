// docs/extending/op.md, followed from outside the source tree: its files are written into a folder of their own, run, and
// held against central differences.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { assertClose, describe } from "../support.ts";
import { codeBlocks, projectFolder, runProgram, typeErrors } from "./code-blocks.ts";

const page = readFileSync(new URL("../../docs/extending/op.md", import.meta.url), "utf8");
const blocks = codeBlocks(page);
const files = Object.fromEntries(blocks.flatMap(({ file, text }) => (file === null ? [] : [[file, text]])));

/** Values and gradients for an upstream gradient, on three backends; differences in float64; a NaN; a gradient added to. */
const proof = `
import { fromArray, GradientMap, openBackend, record, scopeAsync } from "foothold/engine";
import { squaredRelu } from "./squared-relu.ts";
const size = 61 * 7;
const values = Array.from({ length: size }, (_, i) => 3 * Math.sin(1 + 12.9898 * i));
const upstream = Array.from({ length: size }, (_, i) => Math.cos(78.233 * i));
const found = {};
for (const [name, options, dtype] of [
  ["float64", { backend: "cpu" }, "f64"],
  ["plain", { backend: "cpu" }, "f32"],
  ["adapter", { backend: "webgpu" }, "f32"],
  ["adapter, in parts", { backend: "webgpu", maxBufferBytes: 1024 }, "f32"],
]) {
  const { backend } = await openBackend(options);
  const run = (given) => scopeAsync(async () => {
    const x = fromArray(backend, given, [61, 7], dtype);
    x.requiresGradient = true;
    const recording = record(() => squaredRelu(x));
    const seeds = new Map([[recording.result, fromArray(backend, upstream, [61, 7], dtype)]]);
    const store = new GradientMap([x]);
    recording.backward(seeds, store);
    const once = [...(await store.get(x).read())];
    recording.backward(seeds, store);
    const twice = [...(await store.get(x).read())];
    store.free();
    return { y: [...(await recording.result.read())], once, twice };
  });
  found[name] = await run(values);
  const lost = await run(values.map((v, i) => (i === 5 ? Number.NaN : v)));
  found[name].nans = lost.y.flatMap((v, i) => (Number.isNaN(v) ? [i] : []));
  if (name === "float64") {
    const h = 1e-6;
    const [above, below] = [await run(values.map((v) => v + h)), await run(values.map((v) => v - h))];
    found.differences = above.y.map((v, i) => ((v - below.y[i]) / (2 * h)) * upstream[i]);
  }
  found[name].left = backend.statistics().liveBuffers;
}
console.log(JSON.stringify({ values, upstream, found }));
`;

interface Found {
  y: number[];
  once: number[];
  twice: number[];
  nans: number[];
  left: number;
}
interface Proof {
  values: number[];
  upstream: number[];
  found: Record<string, Found> & { differences: number[] };
}

describe("engine/extending an op", (test) => {
  const { folder, remove } = projectFolder({ ...files, "proof.ts": proof });
  test.after(remove);

  test("the page has all files of an op", () =>
    assert.deepEqual(Object.keys(files).sort(), [
      "squared-relu-backward.wgsl",
      "squared-relu.cpu.ts",
      "squared-relu.ts",
      "squared-relu.wgsl",
      "use.ts",
    ]));

  test("the use prints what the page says", async () => {
    const output = blocks.find(({ language }) => language === "text");
    assert.equal(await runProgram(folder, "use.ts"), output?.text);
  });

  test("value and gradient are right on every backend", async () => {
    const { values, found }: Proof = JSON.parse(await runProgram(folder, "proof.ts"));
    const { differences, ...backends } = found;
    assert.deepEqual(Object.keys(backends), ["float64", "plain", "adapter", "adapter, in parts"]);
    const expected = values.map((v) => Math.max(v, 0) ** 2);
    const exact = backends.float64;
    for (const [name, { y, once, twice, nans, left }] of Object.entries(backends)) {
      const close = name === "float64" ? { absolute: 1e-12 } : { ofScale: 2e-7 };
      assertClose(`${name}: y`, y, expected, close);
      // Central differences in float64 err by h² and by 1e-16 / h; none of the values lies within h of the kink.
      assertClose(`${name}: dx`, once, name === "float64" ? differences : exact.once, {
        ofScale: name === "float64" ? 1e-8 : 2e-7,
      });
      assertClose(
        `${name}: dx, added to`,
        twice,
        exact.once.map((v) => 2 * v),
        close,
      );
      assert.deepEqual(nans, [5], `${name}: a NaN shows where it is`);
      assert.equal(left, 0, `${name}: buffers left behind`);
    }
  });

  test("the files compile under strict settings", () => assert.equal(typeErrors(folder, "use.ts"), ""));
});

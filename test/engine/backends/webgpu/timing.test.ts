// FOOTHOLD_TRACE: what a traced process says of its kernels, as a user sees it; and the arithmetic of the summary.
import { spawnSync } from "node:child_process";
import * as assert from "uvu/assert";
import { summaryOf } from "../../../../engine/backends/webgpu/timing.ts";
import { describe } from "../../../support.ts";

const engine = new URL("../../../../engine/", import.meta.url);
/** Ten products of 64³ in one phase, three sums in another; prints one element, which tracing must not change. */
const program = `
import { add, scopeAsync } from "${new URL("index.ts", engine)}";
import { openBackend } from "${new URL("open.ts", engine)}";
import { multiplyForward, packPanels, panelShape } from "${new URL("ops/matmul/matmul.ts", engine)}";
import { empty, fromArray } from "${new URL("tensor.ts", engine)}";
const { backend } = await openBackend({ backend: "webgpu" });
await scopeAsync(async () => {
  const x = fromArray(backend, Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i)), [64, 64]);
  const y = empty(backend, [64, 64]);
  const panels = empty(backend, panelShape(64, 64));
  packPanels(x, panels);
  backend.phase?.("products");
  for (let i = 0; i < 10; i++) multiplyForward(x, panels, null, y);
  backend.phase?.("sums");
  let sum = y;
  for (let i = 0; i < 3; i++) sum = add(sum, x);
  console.log((await sum.read())[70]);
});
process.exit(0);
`;

/** What the program says, and what the trace says of it. */
function run(FOOTHOLD_TRACE: string): { value: string; trace: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
    env: { ...process.env, FOOTHOLD_TRACE },
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  return { value: stdout, trace: stderr.slice(Math.max(0, stderr.indexOf("FOOTHOLD_TRACE"))) };
}

describe("engine/backends/webgpu/timing", (test) => {
  test("a traced process says what each kernel took, phase by phase, and computes the same", () => {
    const { value, trace } = run("1");
    const plain = run("");
    assert.is(value, plain.value);
    assert.not.match(plain.trace, "FOOTHOLD_TRACE");
    const lines = trace.split("\n");
    const of = (text: string): string => lines.find((line) => line.includes(text)) ?? "";
    assert.match(of("products:"), /^products: 10 dispatches/);
    assert.match(of("sums:"), /^sums: 3 dispatches/);
    assert.match(of("multiplyForward"), /100\.0% .* 10 × .* GFLOP\/s .* GB\/s$/);
    assert.match(of("add"), /100\.0% .* 3 × .* GB\/s$/);
    assert.not.match(of("add"), "FLOP");
    assert.match(of("pack"), /1 ×/);
  });

  test("the summary's arithmetic", () => {
    const time = (kernel: string, milliseconds: number, count: number, flops: number, bytes: number) => ({
      ...{ kernel, phase: "step", count, milliseconds, flops, bytes },
    });
    const summary = summaryOf([
      time("large", 1500, 3, 3e12, 6e9),
      time("small", 499.5, 1, 0, 1e9),
      time("first speck", 0.25, 1, 0, 0),
      time("second speck", 0.25, 1, 0, 0),
      { ...time("other", 4000, 2, 0, 0), phase: "" },
    ]);
    const squeezed = summary.split("\n").map((line) => line.trim().replace(/ +/g, " "));
    assert.equal(squeezed, [
      "kernels: 2 dispatches, 4.00 s of kernels",
      "other 100.0% 4.00 s 2 × 2.00 s 0.00 GB/s",
      "step: 6 dispatches, 2.00 s of kernels",
      "large 75.0% 1.50 s 3 × 500.0 ms 2000.00 GFLOP/s 4.00 GB/s",
      "small 25.0% 499.5 ms 1 × 499.5 ms 2.00 GB/s",
      "2 others 0.0% 500.0 µs 2 × 250.0 µs 0.00 GB/s",
    ]);
  });
});

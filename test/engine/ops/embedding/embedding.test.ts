import { GradientMap, record } from "../../../../engine/autograd.ts";
import type { Backend } from "../../../../engine/backends/backend.ts";
import { embedding, embeddingOp } from "../../../../engine/ops/embedding/embedding.ts";
import { scopeAsync } from "../../../../engine/scope.ts";
import { fromArray } from "../../../../engine/tensor.ts";
import { testBackends } from "../../../backends.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { checkOp, type InputSpec, normals, sameBits } from "../../check-op.ts";
import { elementCases } from "../elementwise/element-sizes.ts";
import { checkKnownOps } from "../known-ops.ts";

const lookup = (ids: number[], table: InputSpec) => ({
  inputs: { ids: { shape: [ids.length], values: ids, dtype: "u32" as const }, table },
  settings: { host: Uint32Array.from(ids) },
});

describe("engine/ops/embedding/embedding", (test) => {
  checkOp(test, embeddingOp, {
    settings: { host: null },
    cases: {
      "one id": lookup([0], [1, 1]),
      "prime sizes, ids repeat": lookup([4, 2, 4, 0, 10, 4, 2], [11, 13]),
      ...elementCases((rows, width) =>
        lookup(
          Array.from({ length: rows }, (_, i) => (7 * i) % (rows + 1)),
          [rows + 1, width],
        ),
      ),
      "huge and tiny numbers": lookup([1, 2, 1, 0], {
        shape: [3, 4],
        values: normals(1, 12).map((v, i) => Math.fround(v * (i % 2 ? 1e37 : 1e-30))),
      }),
      "all ids equal": lookup(new Array(70).fill(3), [5, 7]),
      "first and last id, table in several segments": lookup([0, 299, 150, 299, 63, 64], [300, 64]),
      "tokens in several segments": lookup(
        Array.from({ length: 150 }, (_, i) => (i * 7) % 40),
        [40, 64],
      ),
      "more distinct ids than a segment of runs holds": lookup(
        Array.from({ length: 1400 }, (_, i) => (i * 3) % 1400),
        [1400, 2],
      ),
      "no tokens": lookup([], [4, 3]),
    },
    // A copy; the gradient sums up to 70 terms.
    tolerance: { forward: {}, gradient: { ofScale: 1e-6 } },
  });

  checkKnownOps(test, "embedding", ({ table }, { ids }, backend) => {
    const host = Uint32Array.from(ids as number[]);
    const tensor = fromArray(backend, host, [host.length], "u32");
    return { y: embedding({ tensor, host }, { kind: "tensor", tensor: table, panels: null }, null) };
  });

  const gradientOf = (backend: Backend, host: Uint32Array | null, tokens: Uint32Array) =>
    scopeAsync(async () => {
      const table = fromArray(backend, normals(1, 40 * 20), [40, 20]);
      table.requiresGradient = true;
      const ids = fromArray(backend, tokens, [tokens.length], "u32");
      const recording = record(() => embeddingOp({ ids, table }, { host }).y);
      const seed = fromArray(backend, normals(2, tokens.length * 20), [tokens.length, 20]);
      const store = new GradientMap([table]);
      recording.backward(new Map([[recording.result, seed]]), store);
      const gradient = (await store.get(table)?.read()) ?? new Float32Array();
      store.free();
      return gradient;
    });

  test("cuts of tokens, and of one id's tokens, change no bit of the gradient", async () => {
    // One dispatch takes ⌊16 KiB / 12⌋ = 1365 sorted tokens, so that ids 7 and 8 are cut within their tokens.
    const host = Uint32Array.from({ length: 3000 }, (_, i) => (i % 5 === 0 ? i % 40 : 7 + (i % 2)));
    const [, whole, ...cut] = await testBackends();
    const expected = await gradientOf(whole.backend, host, host);
    for (const { name, backend } of cut) sameBits(name, await gradientOf(backend, host, host), expected);
  });

  test("refuses a gradient where only the device knows the ids", async () => {
    const { backend } = (await testBackends())[0];
    await throwsMessage(() => gradientOf(backend, null, Uint32Array.from([1])), "needs the ids on the host");
  });

  test("refuses an id beyond perturbed tables", async () => {
    const { backend } = (await testBackends())[0];
    await scopeAsync(async () => {
      const host = Uint32Array.from([5]);
      const tensor = fromArray(backend, host, [1], "u32");
      await throwsMessage(
        () => embedding({ tensor, host }, { kind: "slots", shape: [4, 2], slots: new Map() }, []),
        "position 0",
        "below 4, got 5",
      );
    });
  });

  test("slots: each run of rows takes its own table", async () => {
    for (const { name, backend } of await testBackends())
      await scopeAsync(async () => {
        const host = Uint32Array.from([5, 1, 299, 0, 7, 7]);
        const tensor = fromArray(backend, host, [6], "u32");
        const tables = [0, 1].map((k) => normals(20 + k, 300 * 20));
        const slots = new Map(
          tables.map((values, point) => [point, { rows: fromArray(backend, values, [300, 20]), panels: null }]),
        );
        const groups = [
          { point: 1, start: 0, count: 2 },
          { point: 0, start: 2, count: 3 },
          { point: 1, start: 5, count: 1 },
        ];
        const y = await embedding({ tensor, host }, { kind: "slots", shape: [300, 20], slots }, groups).read();
        host.forEach((id, t) => {
          const { point } = groups.find(({ start, count }) => t >= start && t < start + count) ?? groups[0];
          sameBits(
            `${name}: token ${t}`,
            y.slice(t * 20, (t + 1) * 20),
            Float32Array.from(tables[point].slice(id * 20, (id + 1) * 20)),
          );
        });
      });
  });

  test("refuses an id beyond the table, by position", () =>
    throwsMessage(
      () => embeddingOp.definition.shapes({ ids: [3], table: [4, 2] }, { host: Uint32Array.from([0, 4, 1]) }),
      "position 1",
      "below 4, got 4",
    ));
});

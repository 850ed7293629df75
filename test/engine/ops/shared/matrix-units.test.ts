// Which matrix units kernels use: decided from an adapter's list alone.
import assert from "node:assert/strict";
import { type Abilities, type MatrixShape, noAbilities } from "../../../../engine/backends/backend.ts";
import { knownForms, matrixForm, ownForm, tileColumns, tileRows } from "../../../../engine/ops/matmul/matrix-tiles.ts";
import { matrixUnits, nameOf } from "../../../../engine/ops/shared/matrix-units.ts";
import { describe } from "../../../support.ts";

const shape = (M: number, N: number, K: number, componentType = "f16", resultType = "f32"): MatrixShape => ({
  M,
  N,
  K,
  componentType,
  resultType,
});

const integers = [shape(16, 16, 32, "u8", "u32"), shape(16, 16, 32, "i8", "i32")];
/** The lists of adapters, as they were read or published. */
const lists = {
  lavapipe: [shape(8, 8, 8, "f16", "f16"), shape(8, 8, 8)],
  nvidia: [
    ...integers,
    shape(16, 8, 8, "f16", "f16"),
    shape(16, 8, 8),
    shape(16, 8, 16),
    shape(16, 16, 16, "f16", "f16"),
    shape(16, 16, 16),
  ],
  intel: [shape(8, 16, 16)],
};

const subgroupsOf = (most: number): Abilities["subgroups"] => ({ least: most, most });

/** @returns the chosen shape, and what was said */
function choose(matrixShapes: readonly MatrixShape[], abilities: Partial<Abilities> = {}): [string, string[]] {
  const said: string[] = [];
  const own = { ...noAbilities, hasHalf: true, subgroups: subgroupsOf(32), matrixShapes, ...abilities };
  const backend = { abilities: own };
  const first = matrixUnits(backend, (sentence) => void said.push(sentence));
  assert.equal(
    matrixUnits(backend, (sentence) => void said.push(sentence)),
    first,
  );
  return [first === null ? "none" : nameOf(first.shape), said];
}

describe("engine/ops/shared/matrix-units", (test) => {
  test("the deepest, then the largest shape with f16 operands and f32 sums, in whatever order the adapter lists them", () => {
    for (const [list, expected] of [
      [lists.lavapipe, "8×8×8 f16→f32"],
      [lists.nvidia, "16×16×16 f16→f32"],
      [lists.intel, "8×16×16 f16→f32"],
      [[shape(16, 8, 8), shape(8, 8, 16)], "8×8×16 f16→f32"],
    ] as const)
      for (const order of [list, [...list].reverse()]) assert.deepEqual(choose(order), [expected, []]);
  });

  test("an adapter without matrix units has none, and nothing is said", () => {
    assert.deepEqual(choose([]), ["none", []]);
    assert.deepEqual(choose([], { subgroups: null, hasHalf: false }), ["none", []]);
  });

  test("matrix units that do not fit are left alone, which is said once", () => {
    for (const list of [integers, [shape(8, 8, 8, "f16", "f16")], [shape(12, 16, 16)], [shape(16, 16, 4)]]) {
      const [chosen, said] = choose(list);
      assert.equal(chosen, "none");
      assert.equal(said.length, 1);
      assert.match(said[0], /^matrix units: expected a shape with f16 operands, f32 sums and sides that/);
      assert.ok(said[0].includes(`got ${list.map(nameOf).join(", ")}`), said[0]);
    }
    for (const [abilities, what] of [
      [{ subgroups: null }, "subgroups"],
      [{ hasHalf: false }, "f16 in kernels (WebGPU's shader-f16)"],
    ] as const) {
      const [chosen, said] = choose(lists.nvidia, abilities);
      assert.equal(chosen, "none");
      assert.equal(said.length, 1);
      assert.ok(said[0].includes(`expected ${what} beside them, got none`), said[0]);
    }
  });

  test("a workgroup is a whole number of the largest subgroups, within every device's limits", () => {
    for (const list of Object.values(lists))
      for (const subgroup of [8, 16, 32, 64, 128])
        for (const style of ["gpu", "lavapipe"] as const) {
          const abilities = { ...noAbilities, hasHalf: true, subgroups: subgroupsOf(subgroup), matrixShapes: list };
          const form = ownForm({ style, abilities });
          assert.ok(form);
          assert.equal(form.LANES, subgroup * form.SUBGROUPS_DOWN * form.SUBGROUPS_ACROSS);
          assert.ok(form.LANES <= 256, `${form.LANES} invocations`);
          const steps = form.MATRIX_STEPS * form.MATRICES_DEEP;
          // One eight more per line; lines of left may lie along the steps or along the rows.
          const left = Math.max(tileRows(form) * (steps + 8), steps * (tileRows(form) + 8));
          const bytes = 2 * (left + steps * (tileColumns(form) + 8));
          assert.ok(bytes <= 16384, `${bytes} bytes of workgroup memory`);
        }
  });

  test("64 × 64 sums per workgroup of a card, by 4 subgroups", () => {
    for (const form of [...knownForms, matrixForm("gpu", knownForms[0], 32)]) {
      assert.deepEqual([tileRows(form), tileColumns(form), form.LANES], [64, 64, 128]);
      assert.equal(form.MATRIX_STEPS * form.MATRICES_DEEP, 32);
    }
  });
});

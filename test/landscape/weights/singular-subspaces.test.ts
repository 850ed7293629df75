// Top singular subspaces and shares of updates in them, against numpy (known/weights.py), and on matrices whose answer is plain.
import * as assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { directionNormals, philoxKey, wordsOf } from "../../../engine/index.ts";
import { updateShares, updatesOfT3 } from "../../../landscape/statistics/claims/update-shares.ts";
import { componentsOf } from "../../../landscape/weights/principal-components.ts";
import { gaussianShares, sharesIn, topSingularSubspaces } from "../../../landscape/weights/singular-subspaces.ts";
import { updateBetween, updatePairs } from "../../../landscape/weights/updates.ts";
import { assertClose, describe } from "../../support.ts";

interface Known {
  readonly matrices: readonly {
    readonly rows: number;
    readonly columns: number;
    readonly rank: number;
    readonly weight: readonly number[];
    readonly delta: readonly number[];
    readonly values: readonly number[];
    readonly shares: {
      readonly squaredNorm: number;
      readonly left: number;
      readonly right: number;
      readonly both: number;
    };
  }[];
  readonly trajectory: {
    readonly points: readonly (readonly number[])[];
    readonly coordinates: readonly (readonly number[])[];
    readonly shares: readonly number[];
  };
}
const known: Known = JSON.parse(readFileSync(new URL("./known/weights.json", import.meta.url), "utf8"));
const normals = (name: string, count: number) => directionNormals(philoxKey("test"), wordsOf(name), count);
const dot = (x: ArrayLike<number>, y: ArrayLike<number>) => Array.from(x).reduce((sum, one, i) => sum + one * y[i], 0);

describe("landscape/weights/singular-subspaces", (test) => {
  test("singular values, and shares of an update, are numpy's", () => {
    for (const { rows, columns, rank, weight, delta, values, shares } of known.matrices) {
      const name = `${rows} × ${columns}, rank ${rank}`;
      const found = topSingularSubspaces({ rows, columns, data: Float32Array.from(weight) }, rank);
      assert.ok(found.isSettled, name);
      assertClose(name, found.values, values, { relative: 1e-9 });
      const own = sharesIn(found, { rows, columns, data: Float32Array.from(delta) });
      // The space stands still to 1e-6 (its angles), so a share is known to about that.
      for (const part of ["squaredNorm", "left", "right", "both"] as const)
        assertClose(`${name}, ${part}`, [own[part]], [shares[part]], { relative: 2e-6 });
    }
  });

  test("vectors are orthonormal; a matrix of low rank lies in its own space, and its further singular values are 0", () => {
    const [rows, columns] = [40, 70];
    const [a, b] = [normals("a", 2 * rows), normals("b", 2 * columns)];
    const data = Float64Array.from({ length: rows * columns }, (_, at) => {
      const [row, column] = [Math.floor(at / columns), at % columns];
      return a[row] * b[column] + 3 * a[rows + row] * b[columns + column];
    });
    const found = topSingularSubspaces({ rows, columns, data }, 4);
    // Its space has two dimensions; further vectors are 0.
    for (const [side, vectors] of [
      ["left", found.left.slice(0, 2)],
      ["right", found.right.slice(0, 2)],
    ] as const)
      for (const [i, one] of vectors.entries())
        for (const [j, other] of vectors.entries())
          assertClose(`${side} ${i}, ${j}`, [dot(one, other)], [i === j ? 1 : 0], { absolute: 1e-9 });
    assert.ok(found.values[1] > 1 && found.values[2] < 1e-6 * found.values[0], String(found.values));
    const own = sharesIn(found, { rows, columns, data });
    assertClose("shares of itself", [own.left, own.right, own.both], [1, 1, 1], { absolute: 1e-9 });
    assert.deepEqual(sharesIn(found, { rows, columns, data: new Float64Array(rows * columns) }).left, 0);
    const zero = topSingularSubspaces({ rows: 3, columns: 4, data: new Float64Array(12) }, 2);
    assert.deepEqual(zero.values, [0, 0]);
  });

  test("Gaussians have the expected shares, within three standard errors over 200 draws", () => {
    const [rows, columns, rank] = [12, 30, 3];
    const found = topSingularSubspaces({ rows, columns, data: normals("weight", rows * columns) }, rank);
    const draws = Array.from({ length: 200 }, (_, k) =>
      sharesIn(found, { rows, columns, data: normals(`update ${k}`, rows * columns) }),
    );
    const expected = gaussianShares({ rows, columns }, rank);
    assert.deepEqual(expected, { left: 3 / 12, right: 3 / 30, both: 9 / 360 });
    for (const part of ["left", "right", "both"] as const) {
      const values = draws.map((one) => one[part]);
      const mean = values.reduce((sum, one) => sum + one, 0) / values.length;
      const error = Math.sqrt(values.reduce((sum, one) => sum + (one - mean) ** 2, 0) / 199 / 200);
      assert.ok(Math.abs(mean - expected[part]) < 3 * error, `${part}: ${mean} for ${expected[part]}, error ${error}`);
    }
    // A space as large as the matrix holds everything.
    assert.deepEqual(gaussianShares({ rows: 4, columns: 9 }, 20), { left: 1, right: 4 / 9, both: 4 / 9 });
  });

  test("an update is aggregated by the squared norm of each matrix; vectors count in the whole alone", async () => {
    const { rows, columns, weight, delta, rank } = known.matrices[1];
    const tensors = (factor: number) => ({
      tensor: async (name: string) => ({
        ...{ shape: [], dtype: "f32" as const },
        data: Float32Array.from(
          name === "norm" ? [1, 1 + factor] : weight,
          (value, i) => value + (name === "norm" ? 0 : factor * (name === "half" ? 0.5 : 1) * delta[i]),
        ),
      }),
    });
    const shapes = new Map([
      ["whole", [rows, columns]],
      ["half", [rows, columns]],
      ["norm", [2]],
    ]);
    const found = await updateBetween({ shapes, ...tensors(0) }, tensors(1), rank);
    const { shares } = known.matrices[1];
    const total = 1.25 * shares.squaredNorm;
    assertClose("‖Δθ‖²", [found.squaredNorm], [total + 1], { relative: 1e-5 });
    const own = updateShares({ from: 0, to: 5, ...found });
    assertClose("in matrices", [own.inMatrices], [total / (total + 1)], { relative: 1e-5 });
    assertClose("shares", [own.left, own.right, own.both], [shares.left, shares.right, shares.both], {
      relative: 1e-4,
    });
    assert.equal(own.moved, 2);
    const [part] = updatesOfT3([{ from: 0, to: 5, ...found }], rank);
    const ratio = own.both / own.gaussian.both;
    assert.ok(part.concluded.includes(`is ${ratio.toFixed(2)} times to ${ratio.toFixed(2)} times that of a Gaussian`));
    assert.deepEqual(updatesOfT3([], 4), []);
    assert.deepEqual(updatePairs([20, 0, 5]), [
      { from: 0, to: 5 },
      { from: 5, to: 20 },
      { from: 0, to: 20 },
    ]);
    assert.deepEqual(updatePairs([0, 20]), [{ from: 0, to: 20 }]);
    assert.deepEqual(updatePairs([7]), []);
  });

  test("coordinates in the plane of a trajectory are numpy's", () => {
    const { points, coordinates, shares } = known.trajectory;
    const differences = points.map((point) => point.map((value, i) => value - points[0][i]));
    const found = componentsOf(differences.map((one) => Float64Array.from(differences, (other) => dot(one, other))));
    assertClose("shares", found.shares, shares, { absolute: 1e-12 });
    for (const [c, expected] of coordinates.entries())
      assertClose(`component ${c + 1}`, found.coordinates[c], expected, { absolute: 1e-10 });
  });
});

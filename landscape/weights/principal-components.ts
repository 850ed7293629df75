// Principal components of a training run's checkpoints. With x_t the parameters of checkpoint t and m their mean over the
// T checkpoints, the components are the unit eigenvectors of Σ_t (x_t − m)(x_t − m)ᵀ. They are computed from the T × T matrix
// of inner products: if u is one of its unit eigenvectors with eigenvalue λ, the component is Σ_t u_t·(x_t − m) / √λ, and its
// share of the variance is λ / Σλ. A component's sign is such that training moves forward along it: its product with
// x_last − x_first is not negative.
//
// Checkpoints are read piece by piece, twice, so memory holds one piece of each. Sums are float64.
import { SettingsError } from "../../engine/host/index.ts";
import type { Checkpoint } from "../../model/index.ts";

/** A checkpoint whose tensors are read piece by piece. */
export type TrajectoryPoint = Pick<Checkpoint, "chunks">;

/** Elements of a tensor that are read at a time from each checkpoint. */
const pieceElements = 2 ** 18;

export interface PrincipalComponents {
  /** Shares of the variance, largest first, T − 1 of them. */
  readonly shares: readonly number[];
  /** For component c: the coefficient of x_t − x_0 for each checkpoint, so that their sum is the unit vector. */
  readonly coefficients: readonly Float64Array[];
  /** For component c: where each checkpoint lies along it, from the mean of all checkpoints on; in units of the weights. */
  readonly coordinates: readonly Float64Array[];
}

/**
 * @param checkpoints  in the order of training, all of one shape; at least two
 * @param names        the tensors that count
 */
export async function principalComponents(
  checkpoints: readonly TrajectoryPoint[],
  names: readonly string[],
  signal?: AbortSignal,
): Promise<PrincipalComponents> {
  const count = checkpoints.length;
  const products = Array.from({ length: count }, () => new Float64Array(count));
  for (const name of names)
    for await (const { differences } of differencesOf(checkpoints, name)) {
      signal?.throwIfAborted();
      for (let i = 1; i < count; i++)
        for (let j = 1; j <= i; j++) {
          let sum = 0;
          const [one, other] = [differences[i], differences[j]];
          for (let k = 0; k < one.length; k++) sum += one[k] * other[k];
          products[i][j] += sum;
          if (i !== j) products[j][i] += sum;
        }
    }
  return componentsOf(products);
}

/** The components from inner products of x_t − x_0 (any common origin gives the same). */
export function componentsOf(products: readonly Float64Array[]): PrincipalComponents {
  const { values, vectors } = symmetricEigen(centred(products));
  const total = values.reduce((sum, value) => sum + Math.max(0, value), 0);
  const order = values.map((_, c) => c).sort((a, b) => values[b] - values[a]);
  const last = products.length - 1;
  const kept = order.slice(0, last);
  const signed = kept.map((c) => {
    const ends = vectors[last][c] - vectors[0][c];
    // A component on which first and last checkpoint agree has the sign of its largest coefficient.
    const column = vectors.map((row) => row[c]);
    const largest = column.reduce((most, one) => (Math.abs(one) > Math.abs(most) ? one : most), 0);
    const sign = Math.sign(Math.abs(ends) > 1e-12 ? ends : largest);
    const length = values[c] <= 1e-14 * total ? 0 : Math.sqrt(values[c]);
    return { length, column: column.map((one) => sign * one) };
  });
  return {
    shares: kept.map((c) => (total === 0 ? 0 : Math.max(0, values[c]) / total)),
    coefficients: signed.map(({ length, column }) =>
      Float64Array.from(column, (one) => (length === 0 ? 0 : one / length)),
    ),
    coordinates: signed.map(({ length, column }) => Float64Array.from(column, (one) => length * one)),
  };
}

/**
 * One tensor of component `c`, counted from 0.
 * @param size  elements of the tensor
 * @throws SettingsError when the checkpoints do not span that many directions
 */
export async function componentTensor(
  checkpoints: readonly TrajectoryPoint[],
  { coefficients, shares }: PrincipalComponents,
  c: number,
  name: string,
  size: number,
): Promise<Float64Array> {
  const own = coefficients[c];
  if (own.every((one) => one === 0))
    throw new SettingsError(
      `landscape.directions: the checkpoints have no principal component ${c + 1}: they differ along ${shares.filter((share) => share > 0).length} ` +
        "directions only. Choose another kind, or other groups of parameters.",
    );
  const values = new Float64Array(size);
  for await (const { start, differences } of differencesOf(checkpoints, name))
    for (let t = 1; t < differences.length; t++)
      for (let k = 0; k < differences[t].length; k++) values[start + k] += own[t] * differences[t][k];
  return values;
}

/** x_t − x_0 of one tensor, piece by piece. */
async function* differencesOf(
  checkpoints: readonly TrajectoryPoint[],
  name: string,
): AsyncGenerator<{ start: number; differences: Float64Array[] }> {
  const pieces = checkpoints.map((checkpoint) => checkpoint.chunks(name, pieceElements));
  while (true) {
    const read = await Promise.all(pieces.map((piece) => piece.next()));
    const found = read.map(({ value, done }) => (done ? null : value));
    const [first] = found;
    if (first === null) return;
    yield {
      start: first.start,
      differences: found.map((piece) => {
        if (piece === null) throw new Error(`principalComponents: ${name} is not of one size in all checkpoints`);
        return Float64Array.from(piece.data, (value, k) => value - first.data[k]);
      }),
    };
  }
}

/** C·G·C with C = 1 − 11ᵀ/T: inner products of x_t − m from those of x_t − x_0. */
function centred(products: readonly Float64Array[]): Float64Array[] {
  const count = products.length;
  const means = products.map((row) => row.reduce((sum, value) => sum + value, 0) / count);
  const mean = means.reduce((sum, value) => sum + value, 0) / count;
  return products.map((row, i) => row.map((value, j) => value - means[i] - means[j] + mean));
}

/**
 * Eigenvalues and, in columns, unit eigenvectors of a symmetric matrix, by Jacobi's rotations: each makes one entry beside
 * the diagonal 0. Source: Golub & Van Loan, "Matrix Computations", algorithm 8.4.3 (cyclic Jacobi).
 */
export function symmetricEigen(matrix: readonly Float64Array[]): { values: number[]; vectors: Float64Array[] } {
  const count = matrix.length;
  const a = matrix.map((row) => Float64Array.from(row));
  const vectors = a.map((_, i) => Float64Array.from({ length: count }, (__, j) => (i === j ? 1 : 0)));
  const scale = Math.max(...a.map((row) => Math.max(...row.map(Math.abs))), 0);
  for (let sweep = 0; sweep < 100; sweep++) {
    let largest = 0;
    for (let p = 0; p < count; p++)
      for (let q = p + 1; q < count; q++) {
        largest = Math.max(largest, Math.abs(a[p][q]));
        if (Math.abs(a[p][q]) <= Number.EPSILON * 1e-2 * scale) continue;
        const tau = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const t = (tau >= 0 ? 1 : -1) / (Math.abs(tau) + Math.hypot(1, tau));
        const c = 1 / Math.hypot(1, t);
        rotate(a, vectors, p, q, c, t * c);
      }
    if (largest <= Number.EPSILON * 1e-2 * scale) break;
  }
  return { values: a.map((row, i) => row[i]), vectors };
}

function rotate(a: Float64Array[], vectors: Float64Array[], p: number, q: number, c: number, s: number): void {
  const turn = (row: Float64Array): void => {
    [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]];
  };
  for (const row of a) turn(row);
  for (let k = 0; k < a.length; k++) [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
  for (const row of vectors) turn(row);
}

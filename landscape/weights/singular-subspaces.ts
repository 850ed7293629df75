// The top singular subspaces of a matrix, and the share of another matrix that lies in them.
//
// The squares of A's singular values are the eigenvalues of the Gram matrix G of its shorter side n (A·Aᵀ or Aᵀ·A). G is made
// once, n²/2 products over the longer side. Subspace iteration then finds the top of G with a few more vectors than are asked
// for: Q ← orthonormal basis of G·Q, until the space of the first k Ritz vectors stands still. Sums are float64.
// Source: Golub & Van Loan, "Matrix Computations", section 8.2.4 (orthogonal iteration with a Ritz acceleration).
import { directionNormals, philoxKey, wordsOf } from "../../engine/index.ts";
import { symmetricEigen } from "./principal-components.ts";

/** A matrix in rows, as checkpoints store it: [rows, columns]. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array | Float64Array;
}

export interface SingularSubspaces {
  /** u_c [rows] and v_c [columns], orthonormal, the largest singular value first. */
  readonly left: readonly Float64Array[];
  readonly right: readonly Float64Array[];
  readonly values: readonly number[];
  /** False if the space still moved after the last iteration: the next singular values are almost as large. */
  readonly isSettled: boolean;
}

/** Vectors beyond the k that are asked for. */
const OVERSAMPLING = 8;
/** The space stands still if it moves by less than this, as Σ of squared sines of its angles. */
const TOLERANCE = 1e-12;
const MOST_ITERATIONS = 500;

/** @param rank  k; at most the shorter side is used */
export function topSingularSubspaces(matrix: Matrix, rank: number, signal?: AbortSignal): SingularSubspaces {
  const { rows, columns } = matrix;
  const isWide = rows <= columns;
  const size = Math.min(rows, columns);
  const k = Math.min(rank, size);
  const gram = gramOfRows(isWide ? matrix : transposed(matrix), signal);
  const { vectors, isSettled } = topEigenvectors(gram, k, signal);
  const images = isWide ? timesTransposed(matrix, vectors) : times(matrix, vectors);
  const values = images.map((image) => Math.sqrt(inner(image, image)));
  // A singular value of 0 leaves no direction on the longer side: its vector is 0.
  const others = images.map((image, c) => {
    const scale = values[c] <= 1e-12 * values[0] || values[c] === 0 ? 0 : 1 / values[c];
    return image.map((one) => scale * one);
  });
  return { left: isWide ? vectors : others, right: isWide ? others : vectors, values, isSettled };
}

/** The first k eigenvectors of a symmetric matrix without negative eigenvalues, the largest eigenvalue first. */
function topEigenvectors(
  gram: Matrix,
  k: number,
  signal: AbortSignal | undefined,
): { vectors: Float64Array[]; isSettled: boolean } {
  const size = gram.rows;
  const width = Math.min(k + OVERSAMPLING, size);
  const start = directionNormals(philoxKey("singular-subspaces"), wordsOf(String(size)), width * size);
  let basis = orthonormal(Array.from({ length: width }, (_, c) => start.slice(c * size, (c + 1) * size)));
  let before: readonly Float64Array[] | null = null;
  for (let iteration = 1; ; iteration++) {
    signal?.throwIfAborted();
    const images = times(gram, basis);
    const ritz = symmetricEigen(basis.map((one) => Float64Array.from(images, (image) => inner(one, image))));
    const order = ritz.values.map((_, c) => c).sort((a, b) => ritz.values[b] - ritz.values[a]);
    const vectors = order.slice(0, k).map((c) => combined(basis, ritz.vectors, c));
    const moved = before === null ? Number.POSITIVE_INFINITY : k - squaredProducts(before, vectors);
    // All of a small matrix is found at once.
    const isSettled = moved < TOLERANCE || width === size;
    if (isSettled || iteration === MOST_ITERATIONS) return { vectors, isSettled };
    before = vectors;
    basis = orthonormal(images);
  }
}

/** Elements of a row that are multiplied at a time, and rows: what fits a processor's nearest memory. */
const CHUNK = 2048;
const TILE = 16;

/** A·Aᵀ; four products at a time. */
function gramOfRows({ rows, columns, data }: Matrix, signal: AbortSignal | undefined): Matrix {
  const gram = new Float64Array(rows * rows);
  for (let from = 0; from < columns; from += CHUNK) {
    const to = Math.min(columns, from + CHUNK);
    for (let tile = 0; tile < rows; tile += TILE) {
      signal?.throwIfAborted();
      for (let other = 0; other <= tile; other += TILE)
        for (let i = tile; i < Math.min(rows, tile + TILE); i += 2)
          for (let j = other; j < Math.min(rows, other + TILE); j += 2) addProducts(i, j, from, to);
    }
  }
  for (let i = 0; i < rows; i++) for (let j = 0; j < i; j++) gram[j * rows + i] = gram[i * rows + j];
  return { rows, columns: rows, data: gram };

  function addProducts(i: number, j: number, from: number, to: number): void {
    const [hasI, hasJ] = [i + 1 < rows, j + 1 < rows];
    const [a, b] = [i * columns, (hasI ? i + 1 : i) * columns];
    const [c, d] = [j * columns, (hasJ ? j + 1 : j) * columns];
    let ac = 0;
    let ad = 0;
    let bc = 0;
    let bd = 0;
    for (let x = from; x < to; x++) {
      const one = data[a + x];
      const two = data[b + x];
      const three = data[c + x];
      const four = data[d + x];
      ac += one * three;
      ad += one * four;
      bc += two * three;
      bd += two * four;
    }
    gram[i * rows + j] += ac;
    if (hasJ) gram[i * rows + j + 1] += ad;
    if (hasI) gram[(i + 1) * rows + j] += bc;
    if (hasI && hasJ) gram[(i + 1) * rows + j + 1] += bd;
  }
}

function transposed({ rows, columns, data }: Matrix): Matrix {
  const turned = new Float32Array(data.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) turned[column * rows + row] = data[row * columns + column];
  return { rows: columns, columns: rows, data: turned };
}

export interface SubspaceShares {
  /** ‖Δ‖². */
  readonly squaredNorm: number;
  /** ‖UᵀΔ‖², ‖ΔV‖² and ‖UᵀΔV‖², each ÷ ‖Δ‖²; 0 if Δ is 0. */
  readonly left: number;
  readonly right: number;
  readonly both: number;
}

/** The shares of a matrix of the same shape that lie in the subspaces of another. */
export function sharesIn({ left, right }: Pick<SingularSubspaces, "left" | "right">, delta: Matrix): SubspaceShares {
  const squaredNorm = inner(delta.data, delta.data);
  if (squaredNorm === 0) return { squaredNorm, left: 0, right: 0, both: 0 };
  const ofLeft = timesTransposed(delta, left); // (UᵀΔ), [k][columns]
  const squares = (of: readonly Float64Array[]): number => of.reduce((sum, one) => sum + inner(one, one), 0);
  return {
    squaredNorm,
    left: squares(ofLeft) / squaredNorm,
    right: squares(times(delta, right)) / squaredNorm,
    both: squaredProducts(ofLeft, right) / squaredNorm,
  };
}

/**
 * The expected shares of a matrix of independent normals, whatever its norm: a Gaussian has no direction of its own, so a space
 * of k of n dimensions holds k/n of its square on average.
 */
export function gaussianShares({ rows, columns }: Pick<Matrix, "rows" | "columns">, rank: number) {
  const k = Math.min(rank, rows, columns);
  return { left: k / rows, right: k / columns, both: (k * k) / (rows * columns) };
}

/** Aᵀ·q for each q [rows]. */
function timesTransposed({ rows, columns, data }: Matrix, vectors: readonly Float64Array[]): Float64Array[] {
  const results = vectors.map(() => new Float64Array(columns));
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    for (let c = 0; c < vectors.length; c++) {
      const factor = vectors[c][row];
      const result = results[c];
      for (let column = 0; column < columns; column++) result[column] += factor * data[from + column];
    }
  }
  return results;
}

/** A·v for each v [columns]. */
function times({ rows, columns, data }: Matrix, vectors: readonly Float64Array[]): Float64Array[] {
  const results = vectors.map(() => new Float64Array(rows));
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    for (let c = 0; c < vectors.length; c++) {
      const vector = vectors[c];
      let sum = 0;
      for (let column = 0; column < columns; column++) sum += vector[column] * data[from + column];
      results[c][row] = sum;
    }
  }
  return results;
}

/** Modified Gram–Schmidt, twice for orthogonality to rounding. A vector that depends on those before it becomes 0. */
function orthonormal(vectors: readonly Float64Array[]): Float64Array[] {
  const done: Float64Array[] = [];
  for (const given of vectors) {
    const vector = Float64Array.from(given);
    const length = Math.sqrt(inner(vector, vector));
    for (let pass = 0; pass < 2; pass++)
      for (const other of done) {
        const along = inner(other, vector);
        for (let i = 0; i < vector.length; i++) vector[i] -= along * other[i];
      }
    const left = Math.sqrt(inner(vector, vector));
    const scale = left <= 1e-12 * length ? 0 : 1 / left;
    done.push(vector.map((value) => scale * value));
  }
  return done;
}

/** Σ_c vectors[c][column] · of[c]. */
function combined(of: readonly Float64Array[], vectors: readonly Float64Array[], column: number): Float64Array {
  const result = new Float64Array(of[0]?.length ?? 0);
  for (let c = 0; c < of.length; c++)
    for (let i = 0; i < result.length; i++) result[i] += vectors[c][column] * of[c][i];
  return result;
}

/** Σ over pairs of (one · other)². */
function squaredProducts(some: readonly Float64Array[], others: readonly Float64Array[]): number {
  let sum = 0;
  for (const one of some) for (const other of others) sum += inner(one, other) ** 2;
  return sum;
}

function inner(one: ArrayLike<number>, other: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += one[i] * other[i];
  return sum;
}

// Operands of any size without the time to compute them: numbers from one table, which is copied again and again. Its
// length has no common factor with a matrix's width, so that no two rows near each other are equal.
import type { Backend } from "../../engine/backends/backend.ts";
import { f16ToF32, f32ToF16 } from "../../engine/dtype-conversion.ts";
import { fromArray, type Shape, sizeOf, type Tensor } from "../../engine/tensor.ts";
import { unit } from "../operands.ts";

const length = 1_048_573; // a prime
const table = Float32Array.from({ length }, (_, i) => Math.fround(2 * unit(i, 7) - 1));

/** Pseudo-random numbers in [−scale, scale), uniform; a function of the index. */
export class Numbers {
  readonly #start: number;
  readonly #scale: number;

  constructor(seed: number, scale = 1) {
    this.#start = (seed * 104_729) % length;
    this.#scale = scale;
  }

  at(index: number): number {
    return Math.fround(table[(this.#start + index) % length] * this.#scale);
  }

  /** Rounded to f16, as the operands of mixed precision are. */
  halfAt(index: number): number {
    return f16ToF32(f32ToF16(this.at(index)));
  }

  array(count: number): Float32Array {
    const values = new Float32Array(count);
    for (let done = 0, from = this.#start; done < count; from = 0) {
      const piece = table.subarray(from, Math.min(length, from + count - done));
      values.set(piece, done);
      done += piece.length;
    }
    if (this.#scale !== 1) for (let i = 0; i < count; i++) values[i] *= this.#scale;
    return values;
  }

  tensor(backend: Backend, shape: Shape): Tensor {
    return fromArray(backend, this.array(sizeOf(shape)), shape);
  }
}

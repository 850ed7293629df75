// Copies of device memory for the host, through buffers that can be mapped. Such buffers are kept and used again.
import type { NumberArray } from "../../dtype.ts";
import type { BufferHandle } from "../backend.ts";
import type { PooledBuffer } from "./pool.ts";
import type { Waits } from "./waiting.ts";

/** Largest size of one copy to the host, bytes; a larger read takes several copies. */
const readBytes = 64 * 2 ** 20;

export class Readback {
  readonly #waits: Waits;
  readonly #createBuffer: (label: string, size: number, usage: number) => GPUBuffer;
  readonly #staging: GPUBuffer[] = [];

  constructor(waits: Waits, createBuffer: (label: string, size: number, usage: number) => GPUBuffer) {
    this.#waits = waits;
    this.#createBuffer = createBuffer;
  }

  /**
   * Encodes copies of parts of the ranges into memory that can be mapped.
   * @returns the memory, for `fetch` once the encoder's commands are submitted
   */
  encode(
    encoder: GPUCommandEncoder,
    ranges: readonly { buffer: BufferHandle; base: number }[],
    copies: readonly Copy[],
  ): GPUBuffer {
    const staging = this.#takeStaging(bytesOf(copies));
    for (const { range, start, length, place } of copies) {
      const { buffer, base } = ranges[range];
      encoder.copyBufferToBuffer((buffer as PooledBuffer).gpu, (base + start) * 4, staging, place * 4, length * 4);
    }
    return staging;
  }

  /**
   * Waits for the copies, and writes them into one array per range.
   * @param work  how much work was submitted since the last wait (waiting.ts)
   * @throws what mapping a buffer throws, such as for a lost device
   */
  async fetch(
    staging: GPUBuffer,
    copies: readonly Copy[],
    arrays: readonly NumberArray[],
    work: number,
  ): Promise<void> {
    const bytes = bytesOf(copies);
    await this.#waits.until(staging.mapAsync(GPUMapMode.READ, 0, bytes), work);
    const mapped = staging.getMappedRange(0, bytes);
    for (const { range, start, length, place } of copies) {
      const array = arrays[range];
      const from =
        array instanceof Float32Array ? Float32Array : array instanceof Int32Array ? Int32Array : Uint32Array;
      array.set(new from(mapped, 4 * place, length), start);
    }
    staging.unmap();
    this.#staging.push(staging);
  }

  #takeStaging(bytes: number): GPUBuffer {
    const index = this.#staging.findIndex((b) => b.size >= bytes);
    if (index >= 0) return this.#staging.splice(index, 1)[0];
    if (this.#staging.length > 4) this.#staging.shift()?.destroy();
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 4096)));
    return this.#createBuffer("copy for the host", size, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  }
}

/** Copies `length` elements of a range, from its element `start` on, to element `place` of the mapped memory. */
export interface Copy {
  range: number;
  start: number;
  length: number;
  place: number;
}

/** Bytes of the mapped memory: 8 more than the copies, lest it be empty. */
function bytesOf(copies: readonly Copy[]): number {
  return copies.reduce((sum, { length }) => sum + 4 * length, 8);
}

/**
 * Cuts ranges so that each part fits one copy to the host. There is at least one part, since a read waits for earlier
 * work.
 */
export function copiesOf(ranges: readonly { length: number }[]): Copy[][] {
  const most = readBytes / 4 - 2;
  const parts: Copy[][] = [[]];
  let place = 0;
  ranges.forEach(({ length: whole }, range) => {
    for (let start = 0; start < whole; ) {
      if (place === most) {
        parts.push([]);
        place = 0;
      }
      const length = Math.min(whole - start, most - place);
      parts[parts.length - 1].push({ range, start, length, place });
      start += length;
      place += length;
    }
  });
  return parts;
}

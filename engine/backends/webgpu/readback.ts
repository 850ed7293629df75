// Copies of device memory for the host, through buffers that can be mapped. Such buffers are kept and used again.
import type { NumberArray } from "../../dtype.ts";
import type { BufferHandle } from "../backend.ts";
import type { PooledBuffer } from "./pool.ts";
import type { Waits } from "./waiting.ts";

/** Largest size of one copy to the host, bytes; a larger read takes several copies. */
const readBytes = 64 * 2 ** 20;

export class Readback {
  readonly #device: GPUDevice;
  readonly #waits: Waits;
  readonly #createBuffer: (label: string, size: number, usage: number) => GPUBuffer;
  readonly #staging: GPUBuffer[] = [];

  constructor(
    device: GPUDevice,
    waits: Waits,
    createBuffer: (label: string, size: number, usage: number) => GPUBuffer,
  ) {
    this.#device = device;
    this.#waits = waits;
    this.#createBuffer = createBuffer;
  }

  /**
   * Fills one array per range, after all work submitted so far.
   * @throws what mapping a buffer throws, such as for a lost device
   */
  async into(
    arrays: readonly NumberArray[],
    ranges: readonly { buffer: BufferHandle; base: number; length: number }[],
  ): Promise<void> {
    for (const copies of copiesOf(ranges)) await this.#readPart(ranges, copies, arrays);
  }

  async #readPart(
    ranges: readonly { buffer: BufferHandle; base: number }[],
    copies: readonly Copy[],
    arrays: readonly NumberArray[],
  ): Promise<void> {
    const bytes = copies.reduce((sum, { length }) => sum + 4 * length, 8);
    const staging = this.#takeStaging(bytes);
    const encoder = this.#device.createCommandEncoder();
    for (const { range, start, length, place } of copies) {
      const { buffer, base } = ranges[range];
      encoder.copyBufferToBuffer((buffer as PooledBuffer).gpu, (base + start) * 4, staging, place * 4, length * 4);
    }
    this.#device.queue.submit([encoder.finish()]);
    await this.#waits.until(staging.mapAsync(GPUMapMode.READ, 0, bytes));
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
interface Copy {
  range: number;
  start: number;
  length: number;
  place: number;
}

/**
 * Cuts ranges so that each part fits one copy to the host. There is at least one part, since a read waits for earlier
 * work.
 */
function copiesOf(ranges: readonly { length: number }[]): Copy[][] {
  const most = readBytes / 4 - 2; // a copy is 8 bytes longer than what it carries, lest it be empty
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

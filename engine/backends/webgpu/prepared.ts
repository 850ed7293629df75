// What the device needs to run a cell again, besides its buffers: pipeline, workgroups and parameter block. It is
// derived once per cell and found by the cell's `params` object: for the same numbers engine/run.ts passes the same
// object.
//
// A parameter block keeps its place in one uniform buffer, so a decode step that only repeats cells writes none. When
// the buffer is full, the work so far is submitted, and places are assigned again from the start.
import { DeviceError } from "../../errors.ts";
import { type AnyKernel, parameterBlock } from "../../kernel.ts";
import type { Dispatch } from "../backend.ts";
import { blockBytes, type Layout, type Pipelines } from "./pipelines.ts";

/** Parameter blocks that have a place at a time. */
const mostBlocks = 4096;
const blockWords = blockBytes / 4;

export interface PreparedCell {
  readonly pipeline: GPUComputePipeline;
  readonly layout: Layout;
  readonly workgroups: readonly [number, number, number];
  readonly flops: number;
  /** The parameter block, as u32 words. */
  readonly block: Uint32Array;
  /** The place of the block in the uniform buffer, bytes: the dynamic offset of its binding. */
  readonly offset: [number];
  /** The round of places in which `offset` was assigned. */
  round: number;
}

/** The cells that a backend has run. */
export class PreparedCells {
  readonly #pipelines: Pipelines;
  readonly #maxGroups: number;
  readonly #cells = new WeakMap<Dispatch["params"], PreparedCell | null>();

  /** @param maxGroups  workgroups that the adapter allows per axis */
  constructor(pipelines: Pipelines, maxGroups: number) {
    this.#pipelines = pipelines;
    this.#maxGroups = maxGroups;
  }

  /**
   * null if the cell is empty.
   * @throws DeviceError if a param is missing, or there are too many params or workgroups
   */
  of({ kernel, buffers, params, constants }: Dispatch): PreparedCell | null {
    const found = this.#cells.get(params);
    if (found !== undefined) return found;
    if (buffers.length === 0) throw new DeviceError(`${kernel.name}: no bindings`);
    const workgroups = workgroupsOf(kernel, kernel.workgroups(params, constants), this.#maxGroups);
    const made: PreparedCell | null = workgroups && {
      pipeline: this.#pipelines.pipeline(kernel, constants),
      layout: this.#pipelines.layout(kernel),
      workgroups,
      flops: kernel.flops?.(params) ?? 0,
      block: blockOf(kernel, params),
      offset: [0],
      round: -1,
    };
    this.#cells.set(params, made);
    return made;
  }
}

function workgroupsOf(
  { name }: AnyKernel,
  asked: readonly [number] | readonly [number, number, number],
  most: number,
): [number, number, number] | null {
  const [x, y, z] = asked.length === 1 ? [asked[0], 1, 1] : asked;
  if (x === 0 || y === 0 || z === 0) return null;
  if (asked.length === 1 && x > most) {
    const rows = Math.ceil(x / most);
    return [Math.ceil(x / rows), rows, 1];
  }
  if (Math.max(x, y, z) > most)
    throw new DeviceError(`${name}: ${x}×${y}×${z} workgroups, but the adapter allows ${most} per axis`);
  return [x, y, z];
}

function blockOf(kernel: AnyKernel, params: Dispatch["params"]): Uint32Array {
  const fields = parameterBlock(kernel);
  if (fields.length > blockWords) throw new DeviceError(`${kernel.name}: more than ${blockWords} params`);
  const words = new Uint32Array(fields.length);
  const floats = new Float32Array(words.buffer);
  fields.forEach(({ name, type }, i) => {
    const value = params[name];
    if (value === undefined) throw new DeviceError(`${kernel.name}: no value for param "${name}"`);
    if (type === "f32") floats[i] = value;
    else words[i] = value; // i32 too: the bits are those of the number modulo 2³²
  });
  return words;
}

/** The places of parameter blocks in the uniform buffer. */
export class ParameterBlocks {
  readonly buffer: GPUBuffer;
  readonly #queue: GPUQueue;
  readonly #words = new Uint32Array(mostBlocks * blockWords);
  #round = 0;
  #count = 0;
  #written = 0;

  constructor(device: GPUDevice) {
    this.#queue = device.queue;
    this.buffer = device.createBuffer({
      label: "params",
      size: mostBlocks * blockBytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  /**
   * Gives a cell's block a place if it has none. False if no place is left: then submit the work so far, call
   * `restart`, and try again.
   */
  place(cell: PreparedCell): boolean {
    if (cell.round === this.#round) return true;
    if (this.#count === mostBlocks) return false;
    this.#words.set(cell.block, this.#count * blockWords);
    cell.offset[0] = this.#count * blockBytes;
    cell.round = this.#round;
    this.#count++;
    return true;
  }

  /** Takes all places back. The work that reads them must be submitted. */
  restart(): void {
    this.#round++;
    this.#count = 0;
    this.#written = 0;
  }

  /** Writes the blocks placed since the last call to the device, before the work that is submitted next. */
  write(): void {
    if (this.#written === this.#count) return;
    const start = this.#written * blockBytes;
    this.#queue.writeBuffer(this.buffer, start, this.#words.buffer, start, this.#count * blockBytes - start);
    this.#written = this.#count;
  }
}

// Pipelines and bind groups, each made once: a pipeline per kernel and constants, a bind group per kernel and buffers.
// Whole buffers are bound and offsets are params, so a step that runs again finds all its bind groups.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { AnyKernel, Constants } from "../../kernel.ts";
import type { BufferHandle, KernelForm } from "../backend.ts";
import { composeWgsl } from "./compose.ts";
import type { PooledBuffer } from "./pool.ts";

/** What all pipelines of a kernel share, and its bind groups by a hash of their buffers. */
export interface Layout {
  readonly name: string;
  readonly group: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
  readonly groups: Map<number, KeptGroup>;
}

interface KeptGroup {
  readonly group: GPUBindGroup;
  readonly layout: Layout;
  readonly hash: number;
  readonly buffers: readonly number[];
}

/**
 * Largest number of bind groups kept. A software driver uses a memory mapping for each. A process may have 65,530
 * mappings; beyond that Mesa crashes. Dawn frees a bind group only when its JavaScript object is garbage-collected. So
 * a full cache is emptied, the collector is called, and groups that are still needed are made again.
 */
const mostGroups = 4096;

/** Size of one parameter block, bytes; dynamic uniform offsets are multiples of it. */
export const blockBytes = 256;

export class Pipelines {
  readonly #device: GPUDevice;
  readonly #uniforms: GPUBuffer;
  readonly #layouts = new Map<string, Layout>();
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  readonly #groupsOfBuffer = new Map<number, Set<KeptGroup>>();
  #groupCount = 0;
  readonly #onFailure: ((kernel: string, message: string) => void) | null;

  /**
   * @param onFailure  called later with the kernel that failed to compile and the reason; if null, the error goes to
   *                   the caller's error scope
   */
  constructor(
    device: GPUDevice,
    uniforms: GPUBuffer,
    onFailure: ((kernel: string, message: string) => void) | null = null,
  ) {
    this.#device = device;
    this.#uniforms = uniforms;
    this.#onFailure = onFailure;
  }

  get count(): number {
    return this.#pipelines.size;
  }

  get groupCount(): number {
    return this.#groupCount;
  }

  /**
   * Compiles in the device's own threads. Failures are left to `pipeline`, which reports them when the kernel is used.
   */
  async prepare(forms: Iterable<KernelForm>): Promise<void> {
    const made: Promise<void>[] = [];
    for (const { kernel, constants } of forms) {
      const key = pipelineKey(kernel, constants);
      if (this.#pipelines.has(key)) continue;
      this.#device.pushErrorScope("validation");
      const descriptor = this.#descriptor(key, kernel, constants);
      this.#device.popErrorScope().catch(() => {});
      made.push(
        this.#device.createComputePipelineAsync(descriptor).then(
          (pipeline) => void this.#pipelines.set(key, pipeline),
          () => {},
        ),
      );
    }
    await Promise.all(made);
  }

  pipeline(kernel: AnyKernel, constants: Constants): GPUComputePipeline {
    const key = pipelineKey(kernel, constants);
    const found = this.#pipelines.get(key);
    if (found !== undefined) return found;
    const onFailure = this.#onFailure;
    // A driver that fails on a valid shader reports an error of the other kind.
    if (onFailure !== null) for (const kind of ["internal", "validation"] as const) this.#device.pushErrorScope(kind);
    const pipeline = this.#device.createComputePipeline(this.#descriptor(key, kernel, constants));
    if (onFailure !== null)
      for (let kinds = 2; kinds > 0; kinds--)
        this.#device.popErrorScope().then(
          (error) => {
            if (error !== null) onFailure(kernel.name, error.message);
          },
          () => {}, // The device was lost, which is reported by itself.
        );
    this.#pipelines.set(key, pipeline);
    return pipeline;
  }

  #descriptor(label: string, kernel: AnyKernel, constants: Constants): GPUComputePipelineDescriptor {
    const module = this.#device.createShaderModule({ label, code: composeWgsl(kernel, constants) });
    return { label, layout: this.layout(kernel).pipeline, compute: { module, entryPoint: "main" } };
  }

  /** @param bound  in the order of the kernel's bindings; their buffers are this backend's */
  group(layout: Layout, bound: readonly { readonly buffer: BufferHandle }[]): GPUBindGroup {
    let hash = 0;
    for (let i = 0; i < bound.length; i++) hash = Math.imul(hash ^ bound[i].buffer.id ^ (hash >>> 15), 0x9e3779b1);
    const found = layout.groups.get(hash);
    if (found !== undefined && hasBuffers(found, bound)) return found.group;
    if (found !== undefined) this.#drop(found);
    if (this.#groupCount >= mostGroups) {
      for (const { groups } of this.#layouts.values()) groups.clear();
      this.#groupsOfBuffer.clear();
      this.#groupCount = 0;
      collectGarbage();
    }
    const entries: GPUBindGroupEntry[] = bound.map(({ buffer }, binding) => ({
      binding,
      resource: { buffer: (buffer as PooledBuffer).gpu },
    }));
    entries.push({ binding: bound.length, resource: { buffer: this.#uniforms, size: blockBytes } });
    const group = this.#device.createBindGroup({ label: layout.name, layout: layout.group, entries });
    const kept: KeptGroup = { group, layout, hash, buffers: bound.map(({ buffer }) => buffer.id) };
    layout.groups.set(hash, kept);
    this.#groupCount++;
    for (const id of kept.buffers) {
      const groups = this.#groupsOfBuffer.get(id);
      if (groups === undefined) this.#groupsOfBuffer.set(id, new Set([kept]));
      else groups.add(kept);
    }
    return group;
  }

  /** Drops the bind groups of a buffer that is about to be destroyed. */
  forget(buffer: PooledBuffer): void {
    for (const kept of this.#groupsOfBuffer.get(buffer.id) ?? []) this.#drop(kept);
  }

  #drop(kept: KeptGroup): void {
    kept.layout.groups.delete(kept.hash);
    this.#groupCount--;
    for (const id of kept.buffers) {
      const groups = this.#groupsOfBuffer.get(id);
      groups?.delete(kept);
      if (groups?.size === 0) this.#groupsOfBuffer.delete(id);
    }
  }

  layout(kernel: AnyKernel): Layout {
    const found = this.#layouts.get(kernel.name);
    if (found !== undefined) return found;
    const bindings = Object.values(kernel.bindings);
    const entries: GPUBindGroupLayoutEntry[] = bindings.map(({ access }, binding) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: access === "read" ? "read-only-storage" : "storage" },
    }));
    entries.push({
      binding: bindings.length,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: blockBytes },
    });
    const group = this.#device.createBindGroupLayout({ label: kernel.name, entries });
    const layout: Layout = {
      name: kernel.name,
      group,
      groups: new Map(),
      pipeline: this.#device.createPipelineLayout({ label: kernel.name, bindGroupLayouts: [group] }),
    };
    this.#layouts.set(kernel.name, layout);
    return layout;
  }
}

function hasBuffers({ buffers }: KeptGroup, bound: readonly { readonly buffer: BufferHandle }[]): boolean {
  for (let i = 0; i < bound.length; i++) if (buffers[i] !== bound[i].buffer.id) return false;
  return true;
}

function pipelineKey({ name }: AnyKernel, constants: Constants): string {
  return `${name} ${JSON.stringify(constants)}`;
}

let collector: (() => void) | null = null;

/** Runs V8's garbage collector, which is not exposed by default. */
function collectGarbage(): void {
  if (collector === null) {
    setFlagsFromString("--expose-gc");
    const found: unknown = runInNewContext("gc");
    collector = typeof found === "function" ? () => void found() : () => {};
  }
  collector();
}

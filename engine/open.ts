// Opens a backend: the adapter that openAdapter finds, or the plain-TypeScript backend where there is none.
import type { Backend } from "./backends/backend.ts";
import { CpuBackend } from "./backends/cpu.ts";
import { type AdapterInfo, type AdapterKind, openAdapter } from "./backends/webgpu/adapter.ts";
import { WebGpuBackend } from "./backends/webgpu/backend.ts";
import { isTracing } from "./backends/webgpu/timing.ts";
import { AdapterError } from "./errors.ts";
import { captureNativeStderr } from "./host/native-stderr.ts";
import { tuneTiles } from "./ops/matmul/tune.ts";

export interface BackendOptions {
  /** "auto": WebGPU where there is an adapter, else plain TypeScript. */
  backend?: "auto" | "webgpu" | "cpu";
  /** See openAdapter. */
  adapter?: string;
  /**
   * Whether products take the tiles that are fastest on this machine, measured once for each adapter and driver (ops/matmul/tune.ts):
   * on, off, or auto: on a GPU only, since what suits the software drivers is known. It changes no bit of a result. Default off.
   */
  tune?: "auto" | "on" | "off";
  /** Lower the buffer limit, bytes: tests force tensors into segments with it. */
  maxBufferBytes?: number;
}

export interface OpenedBackend {
  backend: Backend;
  /** null for the plain backend. */
  adapter: AdapterInfo | null;
  /** Whether it computes with f16 by itself (shader-f16): what mixed precision asks for. */
  hasHalf: boolean;
  /** What would be faster here, and how to get it; null when nothing would. */
  fasterHint: string | null;
}

/** @throws AdapterError when WebGPU, or a named adapter, was asked for and cannot be had */
export async function openBackend(options: BackendOptions = {}): Promise<OpenedBackend> {
  const { backend = "auto", tune = "off", maxBufferBytes } = options;
  const plain = (hint: string): OpenedBackend => ({
    backend: new CpuBackend({ maxBufferBytes }),
    adapter: null,
    hasHalf: false,
    fasterHint: hint,
  });
  if (backend === "cpu") return plain("Any WebGPU adapter would be faster (--backend auto).");
  // Dawn rounds timestamps to 65.536 µs, a time in which several kernels run.
  const disabledToggles = isTracing() ? ["timestamp_quantization"] : [];
  const { opened: found, trouble } = await openAdapter({ adapter: options.adapter, disabledToggles });
  if (found === null) {
    if (backend === "webgpu")
      throw new AdapterError(
        `--backend webgpu: no adapter was found: ${trouble}. Install a Vulkan driver, or run with --backend cpu.`,
      );
    return plain(`No WebGPU adapter was found (${trouble}).`);
  }
  const { adapter, info } = found;
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  // Dawn remarks on limits that it lowered; nobody can act on that.
  const { value } = captureNativeStderr(() =>
    adapter.requestDevice({
      label: "foothold",
      requiredLimits: { maxBufferSize, maxStorageBufferBindingSize },
      requiredFeatures: wantedFeatures().filter((feature) => adapter.features.has(feature)),
    }),
  );
  const device = await value;
  const opened = new WebGpuBackend(device, {
    description: `${info.name}, ${info.driver}`,
    style: styleOf(info.kind, subgroupsOf(adapter)),
    memory: info.kind === "hardware" ? "device" : "host",
    maxBufferBytes,
  });
  if (tune === "on" || (tune === "auto" && info.kind === "hardware")) await tuneTiles(opened);
  return {
    backend: opened,
    adapter: info,
    hasHalf: adapter.features.has("shader-f16"),
    fasterHint: info.fasterHint,
  };
}

function wantedFeatures(): GPUFeatureName[] {
  return isTracing() ? ["subgroups", "timestamp-query"] : ["subgroups"];
}

/** Least and most invocations of a subgroup; null where kernels cannot use any. */
function subgroupsOf(adapter: GPUAdapter): { least: number; most: number } | null {
  const { subgroupMinSize, subgroupMaxSize } = adapter.info;
  return adapter.features.has("subgroups") ? { least: subgroupMinSize, most: subgroupMaxSize } : null;
}

/**
 * Which kernels suit an adapter. On a processor the style follows the driver's vectors, whatever driver it is: the kernels for
 * lavapipe need subgroups of exactly 8 invocations, those for SwiftShader of exactly 4 (lavapipe on ARM has 4, too).
 */
export function styleOf(kind: AdapterKind, subgroups: { least: number; most: number } | null): Backend["style"] {
  if (kind === "hardware" || subgroups === null || subgroups.least !== subgroups.most) return "gpu";
  return subgroups.most === 8 ? "lavapipe" : subgroups.most === 4 ? "swiftshader" : "gpu";
}

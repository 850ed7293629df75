// Opens a backend: the adapter that openAdapter finds, or the plain-TypeScript backend if there is none.
import type { Backend } from "./backends/backend.ts";
import { CpuBackend } from "./backends/cpu.ts";
import { type AdapterInfo, openAdapter } from "./backends/webgpu/adapter.ts";
import { WebGpuBackend } from "./backends/webgpu/backend.ts";
import { openDevice } from "./backends/webgpu/device.ts";
import { isTracing } from "./backends/webgpu/timing.ts";
import type { Meant } from "./check/check.ts";
import { expectSoundDriver } from "./check/start.ts";
import { AdapterError } from "./errors.ts";
import { preferredTiles } from "./ops/matmul/tiles.ts";
import { tuneTiles } from "./ops/matmul/tune.ts";

export interface BackendOptions {
  /** "auto": WebGPU if there is an adapter, else plain TypeScript. */
  backend?: "auto" | "webgpu" | "cpu";
  /** See openAdapter. */
  adapter?: string;
  /**
   * Whether products use the tiles that are fastest on this machine, measured once per adapter and driver
   * (ops/matmul/tune.ts). on, off, or auto: on a GPU only, since the best tiles for software drivers are known. It
   * changes no bit of a result. Default off.
   */
  tune?: "auto" | "on" | "off";
  /** Lower the buffer limit, bytes: tests use it to force tensors into segments. */
  maxBufferBytes?: number;
}

export interface OpenedBackend {
  backend: Backend;
  /** null for the plain backend. */
  adapter: AdapterInfo | null;
  /** Whether the adapter computes with f16 (shader-f16), which mixed precision needs. */
  hasHalf: boolean;
  /** What would be faster here, and how to get it; null if nothing would. */
  fasterHint: string | null;
}

/**
 * @throws AdapterError if WebGPU, or a named adapter, was asked for and is not available, or if the adapter's driver
 *         computes wrong numbers (check/start.ts)
 */
export async function openBackend(options: BackendOptions = {}): Promise<OpenedBackend> {
  const { backend = "auto", tune = "off", maxBufferBytes } = options;
  const plain = (hint: string): OpenedBackend => ({
    backend: new CpuBackend({ maxBufferBytes }),
    adapter: null,
    hasHalf: false,
    fasterHint: hint,
  });
  if (backend === "cpu") return plain("Any WebGPU adapter would be faster (--backend auto).");
  // By default Dawn rounds timestamps to 65.536 µs, long enough for several kernels to run.
  const disabledToggles = isTracing() ? ["timestamp_quantization"] : [];
  const { opened: found, trouble } = await openAdapter({ adapter: options.adapter, disabledToggles });
  if (found === null) {
    if (backend === "webgpu")
      throw new AdapterError(
        `--backend webgpu: no adapter was found: ${trouble}. Install a Vulkan driver, or run with --backend cpu.`,
      );
    return plain(`No WebGPU adapter was found (${trouble}).`);
  }
  const { info } = found;
  const { device, abilities } = await openDevice(found);
  const description = `${info.name}, ${info.driver}`;
  const { style, memory } = info;
  const opened = new WebGpuBackend(device, { description, style, memory, abilities, maxBufferBytes });
  if (tune === "on" || (tune === "auto" && info.computesOn === "gpu")) await tuneTiles(opened);
  if (info.computesOn !== "nothing") {
    // The check is that of whole buffers, whatever limit was asked for.
    const limits = { ...opened.limits, maxBufferBytes: device.limits.maxStorageBufferBindingSize };
    const meant: Meant = { kind: "webgpu", description, style, memory, abilities, limits };
    try {
      await expectSoundDriver(meant, preferredTiles(opened), async () => {
        const adapter = await found.again();
        if (adapter === null) throw new AdapterError(`adapter: ${description} is gone since it was opened.`);
        const own = await openDevice({ ...found, adapter });
        return new WebGpuBackend(own.device, { description, style, memory, abilities: own.abilities, isTraced: false });
      });
    } catch (thrown) {
      opened.destroy();
      throw thrown;
    }
  }
  return {
    backend: opened,
    adapter: info,
    hasHalf: abilities.hasHalf,
    fasterHint: info.fasterHint,
  };
}

// A contestant represents one library in a comparison: it prepares a task once and then runs it repeatedly, alone in a
// process.
import { openAdapter } from "../../engine/backends/webgpu/adapter.ts";
import type { Results, Task } from "./tasks.ts";

export interface Prepared {
  /** Submits this many runs and waits until the device has finished them all. */
  run(count: number): Promise<void>;
  /** The results of one run, in the layouts of tasks.ts. */
  results(): Promise<Results>;
}

export interface Contestant {
  /** null if the library has no such operation. */
  prepare(task: Task): Promise<Prepared | null>;
}

/** A module under contestants/. */
export interface ContestantModule {
  open(adapter: string): Promise<Contestant>;
}

export const contestantNames = ["foothold", "foothold-packing", "jax-js", "tfjs", "onnxruntime"] as const;
export type ContestantName = (typeof contestantNames)[number];

/**
 * Gives libraries that were written for a browser the adapter that foothold would choose, as `navigator.gpu`.
 * @returns the devices that they requested; each is added when it is created
 */
export async function offerAdapter(adapter: string): Promise<GPUDevice[]> {
  const { globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  const devices: GPUDevice[] = [];
  const gpu = {
    requestAdapter: async (): Promise<GPUAdapter | null> => {
      const { opened } = await openAdapter({ adapter });
      if (opened === null) return null;
      const { adapter: own } = opened;
      const requestDevice = own.requestDevice.bind(own);
      own.requestDevice = async (descriptor) => {
        const device = await requestDevice(descriptor);
        devices.push(device);
        return device;
      };
      return own;
    },
    getPreferredCanvasFormat: () => "bgra8unorm",
    wgslLanguageFeatures: new Set<string>(),
  };
  Object.defineProperty(globalThis, "navigator", { value: { gpu, userAgent: "node" }, configurable: true });
  return devices;
}

/**
 * Runs `body` between error scopes of these devices: an operation that the GPU refused throws, so that its time is not
 * used.
 */
export async function strictly<T>(devices: readonly GPUDevice[], body: () => Promise<T>): Promise<T> {
  const filters = ["validation", "out-of-memory", "internal"] as const;
  for (const device of devices) for (const filter of filters) device.pushErrorScope(filter);
  const result = await body();
  for (const device of devices)
    for (const filter of [...filters].reverse()) {
      const error = await device.popErrorScope();
      if (error !== null) throw new Error(`${filter}: ${error.message}`);
    }
  return result;
}

// Finds an adapter to compute on: the best GPU of the machine; if there is none, a software driver of the machine; if
// there is none, the SwiftShader that came with the npm packages. If nothing is found, the caller uses the
// plain-TypeScript backend.
//
// The order is that of speed. A GPU is far faster than the others. lavapipe multiplies matrices about six times as fast
// as SwiftShader. SwiftShader is no faster than plain loops, but runs the same kernels as a GPU.
//
// Observed behaviour of Dawn (webgpu 0.6.2):
// - One process can hold several instances on different drivers. A Vulkan loader that found no driver finds one when
//   the next instance is made under another VK_DRIVER_FILES. So SwiftShader is loaded only if the machine had no adapter.
// - The loader reads its environment variables only while an instance looks for adapters.
// - If an instance and its devices are garbage-collected together, in any order, the process may crash. So instances are
//   kept reachable for the life of the process. It still exits when its work is done, and devices are destroyed
//   explicitly.
import { existsSync } from "node:fs";
import { AdapterError } from "../../errors.ts";
import { asError } from "../../host/errors.ts";
import { captureNativeStderr } from "../../host/native-stderr.ts";
import { type Dawn, loadDawn } from "./dawn.ts";
import { type AdapterFacts, factsOf } from "./facts.ts";
import { sayOnce } from "./say-once.ts";
import { loadSwiftShader } from "./swiftshader.ts";

export interface AdapterOptions {
  /**
   * "auto" (default), "hardware", "lavapipe", "swiftshader", "null" (checks shaders, computes nothing), or part of an
   * adapter's name, in upper or lower case. If absent or "auto", the environment variable FOOTHOLD_ADAPTER decides if
   * it is set.
   */
  adapter?: string;
  /** Dawn's toggles to switch on, besides `usualToggles`. */
  toggles?: readonly string[];
  /** Dawn's toggles to switch off, such as "timestamp_quantization". */
  disabledToggles?: readonly string[];
}

/**
 * Dawn's toggles of every instance. Dawn keeps experimental features (matrix units) behind the first, and f16 on NVIDIA
 * GPUs, in kernels and in matrices, behind the second. On other adapters the second changes nothing.
 */
export const usualToggles: readonly string[] = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];

/** How a user names an adapter; `software` is any other software driver, such as Windows' WARP. It decides nothing. */
export type AdapterLabel = "hardware" | "lavapipe" | "swiftshader" | "software" | "null";

export interface AdapterInfo extends AdapterFacts {
  /** The device's name as Dawn gives it: lower case, words joined by hyphens. */
  name: string;
  vendor: string;
  /** Name and version of the driver: results repeat bit for bit only under the same one. */
  driver: string;
  backend: "vulkan" | "metal" | "d3d12" | "null";
  label: AdapterLabel;
  /** What would be faster on this machine and how to install it; null on a GPU. */
  fasterHint: string | null;
}

export interface OpenedAdapter {
  gpu: GPU;
  adapter: GPUAdapter;
  info: AdapterInfo;
  /** Requests the same adapter again, because an adapter opens only one device; null if it is gone. */
  again: () => Promise<GPUAdapter | null>;
}

/** Every instance made, by its flags; kept for the life of the process (see above). */
const instances = new Map<string, GPU>();

/** The adapter that a search found; if none, the reason in one line. */
export interface AdapterSearch {
  opened: OpenedAdapter | null;
  trouble: string;
}

/**
 * Opens an adapter. May be called again; with the same flags and driver it returns a new adapter of the same instance.
 * @param loaded  in place of Dawn: tests observe what it is asked for
 * @returns       `opened` is null only if the choice is "auto" and there is no adapter: `trouble` gives the reason
 * @throws AdapterError if a named adapter is not available
 */
export async function openAdapter(options: AdapterOptions = {}, loaded?: Dawn): Promise<AdapterSearch> {
  const dawn = loaded ?? (await loadDawn());
  const choice = chosenAdapter(options);
  const flags = [enabling([...usualToggles, ...(options.toggles ?? [])])];
  if (options.disabledToggles?.length) flags.push(`disable-dawn-features=${options.disabledToggles.join(",")}`);

  switch (choice) {
    case "auto": {
      const found = await openOwn(dawn, flags);
      if (found.opened) return found;
      try {
        return sound(await openSwiftShader(dawn, flags));
      } catch (thrown) {
        return { opened: null, trouble: `${found.trouble}; ${asError(thrown).message.replace(/\.$/, "")}` };
      }
    }
    case "hardware": {
      const { opened, trouble } = await openOwn(dawn, flags);
      if (opened?.info.computesOn === "gpu") return sound(opened);
      const got = opened ? `only ${opened.info.name}, which computes on the processor` : trouble;
      throw new AdapterError(
        `adapter: expected a GPU, got ${got}. ${driverHint() ?? "Install the GPU's own driver"}, or leave the choice to "auto".`,
      );
    }
    case "lavapipe": {
      const opened = await openNamed(dawn, "llvmpipe", flags);
      if (opened) return sound(opened);
      throw new AdapterError(`adapter: lavapipe is not on this machine. ${lavapipeHint}`);
    }
    case "swiftshader":
      return sound(await openSwiftShader(dawn, flags));
    case "null": {
      const { gpu, adapter, again } = await request(dawn, [...flags, "backend=null"]);
      if (!adapter) throw new AdapterError("adapter: this build of Dawn has no null backend.");
      const info: AdapterInfo = {
        name: "null",
        vendor: "",
        driver: "null",
        backend: "null",
        label: "null",
        ...factsOf(adapter.info, adapter.features.has("subgroups")),
        computesOn: "nothing",
        memory: "host",
        fasterHint: "It computes nothing.",
      };
      return sound({ gpu, adapter, info, again });
    }
    default: {
      const names = await ownNames(dawn, flags);
      const name = names.find((n) => n.toLowerCase().includes(choice.toLowerCase()));
      const opened = name === undefined ? null : await openNamed(dawn, name, flags);
      if (opened) return sound(opened);
      throw new AdapterError(
        `adapter: no adapter's name contains "${choice}". This machine has ${names.map((n) => `"${n}"`).join(", ") || "none"}; ` +
          `"auto", "hardware", "lavapipe", "swiftshader" and "null" can be asked for by kind.`,
      );
    }
  }
}

function sound(opened: OpenedAdapter): AdapterSearch {
  return { opened, trouble: "" };
}

function chosenAdapter({ adapter }: AdapterOptions): string {
  const asked = adapter === undefined || adapter === "auto" ? process.env["FOOTHOLD_ADAPTER"] || "auto" : adapter;
  const kind = asked.toLowerCase();
  return ["auto", "hardware", "lavapipe", "swiftshader", "null"].includes(kind) ? kind : asked;
}

/** The machine's best adapter. Dawn sorts discrete GPUs first, then integrated ones, then software. */
async function openOwn(dawn: Dawn, flags: string[]): Promise<AdapterSearch> {
  const found = await request(dawn, flags);
  if (found.adapter) return sound(described(found, found.adapter));
  const remark = found.text.split("\n").find((line) => /driver|Vulkan|libvulkan/i.test(line));
  return { opened: null, trouble: `no adapter on this machine${remark ? ` (${remark.trim()})` : ""}` };
}

async function openNamed(dawn: Dawn, name: string, flags: string[]): Promise<OpenedAdapter | null> {
  const found = await request(dawn, [...flags, `adapter=${name}`]);
  return found.adapter && described(found, found.adapter);
}

/** Names of the machine's adapters, best first: Dawn lists them if asked for one that cannot exist. */
async function ownNames(dawn: Dawn, flags: string[]): Promise<string[]> {
  const { text } = await request(dawn, [...flags, "adapter=\u0001"]);
  return [...text.matchAll(/name: '(.*)'$/gm)].map((match) => match[1]);
}

async function openSwiftShader(dawn: Dawn, flags: string[]): Promise<OpenedAdapter> {
  const manifest = loadSwiftShader();
  // Newer loaders prefer the first variable; older ones know only the second. Both are restored afterwards, so that a
  // child process finds its own driver.
  const variables = { VK_DRIVER_FILES: manifest, VK_ICD_FILENAMES: manifest };
  const found = await request(dawn, [...flags, "adapter=SwiftShader"], variables);
  if (found.adapter) return described(found, found.adapter);
  throw new AdapterError(
    `swiftshader: Vulkan does not accept the driver ${manifest} (${found.text.trim() || "no reason given"}). ` +
      "Delete its folder, so that it is unpacked again.",
  );
}

interface Answer extends Pick<OpenedAdapter, "again"> {
  gpu: GPU;
  adapter: GPUAdapter | null;
  /** What drivers and Dawn printed. If no adapter has the name asked for, it contains the names of all adapters. */
  text: string;
}

/**
 * Asks the instance with these flags for its best adapter. If an instance refuses the usual toggles, or has no adapter
 * under them, one without them is asked.
 */
async function request(dawn: Dawn, flags: string[], variables: Record<string, string> = {}): Promise<Answer> {
  const [first, ...others] = flags;
  let trouble = "";
  try {
    const found = await ask(dawn, flags, variables);
    if (found.adapter !== null) return found;
    trouble = found.text;
  } catch (thrown) {
    trouble = asError(thrown).message;
  }
  const own = first.replace(enabling(usualToggles), enabling([])).replace("=,", "=");
  const found = await ask(dawn, own === enabling([]) ? others : [own, ...others], variables);
  if (found.adapter === null) return found;
  const reason =
    trouble
      .split("\n")
      .find((line) => line.trim() !== "")
      ?.trim() ?? "no reason given";
  sayOnce(
    `Dawn has no adapter with its toggles ${usualToggles.join(" and ")} (${reason}), but has one without them: continuing ` +
      "without matrix units, and on NVIDIA GPUs without f16. A newer Dawn or driver may help.",
  );
  return found;
}

/** Dawn looks for adapters inside the call of requestAdapter: that is when drivers read variables and print remarks. */
async function ask(dawn: Dawn, flags: readonly string[], variables: Record<string, string>): Promise<Answer> {
  return withEnvironment(variables, () => {
    const key = [...flags, process.env["VK_DRIVER_FILES"], process.env["VK_ICD_FILENAMES"]].join("\n");
    const gpu = instances.get(key) ?? dawn.create([...flags]);
    instances.set(key, gpu);
    const search = (): { value: Promise<GPUAdapter | null>; text: string } =>
      withEnvironment(variables, () =>
        captureNativeStderr(() => gpu.requestAdapter({ powerPreference: "high-performance" })),
      );
    const { value, text } = search();
    const again = (): Promise<GPUAdapter | null> => search().value;
    return value.then(
      (adapter) => ({ gpu, adapter, again, text }),
      // dawn.node rejects with a plain string.
      (thrown) => ({ gpu, adapter: null, again, text: `${text}${asError(thrown).message}` }),
    );
  });
}

/** The flag that switches toggles on. */
function enabling(toggles: readonly string[]): string {
  return `enable-dawn-features=${toggles.join(",")}`;
}

function withEnvironment<T>(variables: Record<string, string>, body: () => T): T {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    return body();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

function described({ gpu, again }: Answer, adapter: GPUAdapter): OpenedAdapter {
  const { info } = adapter;
  const facts = factsOf(info, adapter.features.has("subgroups"));
  const label = labelOf(info, facts);
  return {
    gpu,
    adapter,
    again,
    info: {
      name: info.device.replace(/-+$/, "") || info.description,
      vendor: info.vendor,
      driver: info.description,
      backend: process.platform === "darwin" ? "metal" : process.platform === "win32" ? "d3d12" : "vulkan",
      label,
      ...facts,
      fasterHint: fasterHint(label, facts),
    },
  };
}

function labelOf({ architecture, device }: GPUAdapterInfo, { computesOn }: AdapterFacts): AdapterLabel {
  if (computesOn === "gpu") return "hardware";
  if (architecture === "swiftshader") return "swiftshader";
  return device.includes("llvmpipe") ? "lavapipe" : "software";
}

const lavapipeHint =
  "Install Mesa 23 or newer (mesa-vulkan-drivers and libvulkan1; on Debian 12 from bookworm-backports): " +
  "its lavapipe multiplies matrices about six times as fast as SwiftShader.";

function fasterHint(label: AdapterLabel, { computesOn }: AdapterFacts): string | null {
  if (computesOn === "gpu") return null;
  return driverHint() ?? `A GPU would be far faster.${label === "swiftshader" ? ` ${lavapipeHint}` : ""}`;
}

/**
 * A GPU that the system shows but Vulkan does not: usually a container that was given the device without its driver.
 */
function driverHint(): string | null {
  if (existsSync("/dev/nvidia0"))
    return (
      "This machine has an NVIDIA GPU (/dev/nvidia0) that Vulkan does not see: install libnvidia-gl of the driver's " +
      "version, or in a container set NVIDIA_DRIVER_CAPABILITIES=all"
    );
  if (existsSync("/dev/dri/renderD128"))
    return "This machine shows a GPU (/dev/dri/renderD128) that Vulkan does not see: install its Vulkan driver";
  return null;
}

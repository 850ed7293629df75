// Opens the device with everything that kernels may use and the adapter offers: its features and its real limits.
//
// Some drivers list a feature but open no device with it. The device is then opened with the features that the driver
// does accept, and a message says once which one is missing.
import { AdapterError } from "../../errors.ts";
import { asError } from "../../host/errors.ts";
import { captureNativeStderr } from "../../host/native-stderr.ts";
import type { Abilities, MatrixShape } from "../backend.ts";
import type { OpenedAdapter } from "./adapter.ts";
import { matrixFeature } from "./dawn-extensions.ts";
import { sayOnce } from "./say-once.ts";

/** What kernels, traces and parameters may use; a feature comes after those that it needs. */
export const wantedFeatures: readonly string[] = [
  "shader-f16",
  "subgroups",
  "subgroup-size-control",
  matrixFeature,
  "timestamp-query",
];

/** A device opens with WebGPU's default limits unless it asks for more. These can bound a kernel or a buffer. */
const wantedLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
  "maxImmediateSize",
] as const;

/** The limits that a device is opened with if the driver refuses the others. */
const leastLimits = ["maxBufferSize", "maxStorageBufferBindingSize"] as const;

export interface OpenedDevice {
  device: GPUDevice;
  abilities: Abilities;
}

/** @throws AdapterError if the driver opens no device at all */
export async function openDevice(opened: OpenedAdapter): Promise<OpenedDevice> {
  const { info } = opened;
  const offered = wantedFeatures.filter((feature) => opened.adapter.features.has(feature));
  const first = await tryDevice(opened.adapter, offered, wantedLimits);
  if (!(first instanceof Error)) return { device: first, abilities: abilitiesOf(opened, first) };

  // Which feature, or the limits, does the driver refuse? An adapter opens one device, so each try takes a new one.
  const again = async (features: readonly string[], limits: readonly LimitName[]): Promise<GPUDevice | Error> => {
    const adapter = await opened.again();
    return adapter === null ? new Error("the adapter is gone") : tryDevice(adapter, features, limits);
  };
  let limits: readonly LimitName[] = wantedLimits;
  let best = await again([], limits);
  if (best instanceof Error) {
    sayOnce(`${info.name} opens no device with its own limits (${reasonOf(best)}): continuing with fewer of them.`);
    limits = leastLimits;
    best = await again([], limits);
  }
  if (best instanceof Error)
    throw new AdapterError(
      `adapter: ${info.name} (${info.driver}) opens no device: expected one with no optional feature, got: ` +
        `${reasonOf(best)}. Update its driver, or choose another adapter (--adapter).`,
    );
  const accepted: string[] = [];
  for (const feature of offered) {
    const next = await again([...accepted, feature], limits);
    if (next instanceof Error) {
      sayOnce(
        `${info.name} lists ${feature} but opens no device with it (${reasonOf(next)}): continuing without it. ` +
          "A newer driver may help.",
      );
      continue;
    }
    best.destroy();
    best = next;
    accepted.push(feature);
  }
  return { device: best, abilities: abilitiesOf(opened, best) };
}

type LimitName = (typeof wantedLimits)[number];

async function tryDevice(
  adapter: GPUAdapter,
  features: readonly string[],
  limits: readonly LimitName[],
): Promise<GPUDevice | Error> {
  const isOffered = (feature: string): feature is GPUFeatureName => adapter.features.has(feature);
  const offered = limits.map((name) => [name, adapter.limits[name]] as const);
  try {
    // Dawn remarks on limits that it lowered; the user can do nothing about that.
    return await captureNativeStderr(() =>
      adapter.requestDevice({
        label: "foothold",
        // A Dawn that does not know a limit has no value for it.
        requiredLimits: Object.fromEntries(offered.filter(([, value]) => value !== undefined)),
        requiredFeatures: features.filter(isOffered),
      }),
    ).value;
  } catch (thrown) {
    return asError(thrown);
  }
}

function reasonOf({ message }: Error): string {
  return message.split("\n")[0].trim();
}

function abilitiesOf({ gpu, adapter, info }: OpenedAdapter, device: GPUDevice): Abilities {
  const has = (feature: string): boolean => device.features.has(feature);
  return {
    hasHalf: has("shader-f16"),
    subgroups: has("subgroups") ? info.subgroups : null,
    hasSubgroupSize: has("subgroup-size-control"),
    matrixShapes: has(matrixFeature) ? matrixShapesOf(adapter.info) : [],
    hasImmediates: gpu.wgslLanguageFeatures.has("immediate_address_space") && device.limits.maxImmediateSize > 0,
    hasTimestamps: has("timestamp-query"),
  };
}

function matrixShapesOf({ subgroupMatrixConfigs }: GPUAdapterInfo): MatrixShape[] {
  return [...(subgroupMatrixConfigs ?? [])].map(({ componentType, resultComponentType, M, N, K }) => ({
    componentType,
    resultType: resultComponentType,
    M,
    N,
    K,
  }));
}

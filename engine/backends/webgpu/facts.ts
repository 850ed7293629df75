// What an adapter says of itself, as separate facts. Each decision follows the one fact that it depends on: the limit
// of memory follows where the memory lies, the kernels follow the subgroups, a hint follows what computes. Whether a driver
// computes on the processor is Dawn's word (a fallback, or the architecture "software"); a list of names only helps where
// Dawn says nothing.
import type { Backend } from "../backend.ts";

/** Number of invocations in a subgroup. */
export interface SubgroupSizes {
  least: number;
  most: number;
}

export interface AdapterFacts {
  /** What runs its kernels: a GPU, the processor (a software driver), or nothing (Dawn's null backend). */
  computesOn: "gpu" | "processor" | "nothing";
  /** Where its buffers lie; see Backend.memory. */
  memory: Backend["memory"];
  /** null: kernels cannot use subgroups. */
  subgroups: SubgroupSizes | null;
  /** Which variant of each kernel it runs. */
  style: Backend["style"];
}

/** The words of GPUAdapterInfo, and whether kernels can use subgroups. */
export type AdapterWords = Pick<
  GPUAdapterInfo,
  "vendor" | "architecture" | "device" | "description" | "isFallbackAdapter" | "subgroupMinSize" | "subgroupMaxSize"
>;

/**
 * Words by which software drivers call themselves. Dawn marks such an adapter as a fallback; a driver that does not
 * report itself as one must be recognised all the same, lest its buffers have no limit.
 */
const softwareNames = /llvmpipe|lavapipe|softpipe|swiftshader|swrast|basic render|\bwarp\b/i;

export function factsOf(words: AdapterWords, hasSubgroups: boolean): AdapterFacts {
  const { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } = words;
  const names = [vendor, architecture, device, description].join(" ");
  const isSoftware = isFallbackAdapter || architecture === "software" || softwareNames.test(names);
  const computesOn = isSoftware ? "processor" : "gpu";
  const subgroups =
    hasSubgroups && subgroupMinSize !== undefined && subgroupMaxSize !== undefined
      ? { least: subgroupMinSize, most: subgroupMaxSize }
      : null;
  return { computesOn, memory: isSoftware ? "host" : "device", subgroups, style: styleOf(computesOn, subgroups) };
}

/**
 * Selects the kernels for an adapter. On a processor the style follows the width of the driver's vectors, whatever
 * driver it is: the kernels for lavapipe need subgroups of exactly 8 invocations, those for SwiftShader of exactly 4
 * (so has lavapipe on ARM).
 */
export function styleOf(computesOn: AdapterFacts["computesOn"], subgroups: SubgroupSizes | null): Backend["style"] {
  if (computesOn === "gpu" || subgroups === null || subgroups.least !== subgroups.most) return "gpu";
  return subgroups.most === 8 ? "lavapipe" : subgroups.most === 4 ? "swiftshader" : "gpu";
}

// Whether the results of two machines may be in one map: driver, version of the program and order of sums.
import { type Backend, sumOrder } from "../../engine/index.ts";
import { programVersion, versionText } from "../../rl/index.ts";
import type { Plan } from "./messages.ts";

/** The plan of this process. */
export function ownPlan(backend: Backend): Plan {
  return { adapter: backend.description, ...programVersion(), order: sumOrder };
}

/** In what one plan differs from the study's, in words; null if in nothing. */
export function planDifference(study: Plan, other: Plan): string | null {
  if (other.order !== study.order) return `products are summed by "${other.order}", in the study by "${study.order}"`;
  if (other.adapter !== study.adapter)
    return `the adapter is "${other.adapter}", that of the study "${study.adapter}", and results of two drivers differ in the last bits`;
  if (versionText(other) !== versionText(study))
    return `this is foothold ${versionText(other)}, the study's is ${versionText(study)}`;
  return null;
}

/** Whether the difference can be allowed: sums in another order are never mixed. */
export const canMix = (study: Plan, other: Plan): boolean => other.order === study.order;

/** Drivers and versions of a folder with mixed cells, as provenance.json and every figure name them. */
export function mixedNames(before: readonly string[], study: Plan, other: Plan): string[] {
  const names = [
    ...(other.adapter === study.adapter ? [] : [study.adapter, other.adapter]),
    ...(versionText(other) === versionText(study)
      ? []
      : [`foothold ${versionText(study)}`, `foothold ${versionText(other)}`]),
  ];
  return [...new Set([...before, ...names])];
}

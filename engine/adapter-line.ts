// The first line that a command prints: the adapter, and what kernels use of it.
import type { Abilities, MatrixShape } from "./backends/backend.ts";
import { formatBytes } from "./host/files.ts";
import type { OpenedBackend } from "./open.ts";

/**
 * Adapter, driver, what kernels may use (f16, subgroups, matrix units and their shapes, timestamps) and memory. What
 * would be faster follows on a line of its own.
 */
export function adapterLine({ backend, adapter, fasterHint }: OpenedBackend): string {
  const hint = fasterHint === null ? "" : `\n  ${fasterHint}`;
  if (adapter === null) return `Adapter: ${backend.description} (no GPU)${hint}`;
  const { maxBufferBytes, totalBytes } = backend.limits;
  const whose = backend.memory === "host" ? "of this machine" : "of the GPU";
  const memory = `memory: ${totalBytes === undefined ? "" : `${formatBytes(totalBytes)} `}${whose}, buffers up to ${formatBytes(maxBufferBytes)}`;
  return `Adapter: ${backend.description} (${adapter.label}): ${describeAbilities(backend.abilities)}; ${memory}${hint}`;
}

export function describeAbilities({ hasHalf, subgroups, matrixShapes, hasTimestamps }: Abilities): string {
  return [
    hasHalf ? "f16" : "no f16",
    subgroups === null ? "no subgroups" : `subgroups of ${rangeOf(subgroups)}`,
    matrixShapes.length === 0 ? "no matrix units" : `matrix units ${describeShapes(matrixShapes)}`,
    hasTimestamps ? "timestamps" : "no timestamps",
  ].join(", ");
}

function rangeOf({ least, most }: { least: number; most: number }): string {
  return least === most ? String(least) : `${least} to ${most}`;
}

/** The types of each size M×N×K: "8×8×8 (f16→f16, f16→f32)". */
function describeShapes(shapes: readonly MatrixShape[]): string {
  const bySize = new Map<string, string[]>();
  for (const { componentType, resultType, M, N, K } of shapes) {
    const size = `${M}×${N}×${K}`;
    bySize.set(size, [...(bySize.get(size) ?? []), `${componentType}→${resultType}`]);
  }
  return [...bySize].map(([size, types]) => `${size} (${types.join(", ")})`).join(", ");
}

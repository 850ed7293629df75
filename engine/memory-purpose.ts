// The purpose of device memory. A buffer's label begins with its purpose, so that memory plans and error messages can
// show it. A buffer without a purpose holds activations.

export const memoryPurposes = [
  "weights",
  "gradients",
  "moments",
  "perturbed weights",
  "directions",
  "compute copies",
  "KV cache",
  "head",
  "spare",
  "activations",
] as const;
export type MemoryPurpose = (typeof memoryPurposes)[number];

/** "KV cache: keys.3" */
export function memoryLabel(purpose: MemoryPurpose, name: string): string {
  return `${purpose}: ${name}`;
}

/** The purpose that `memoryLabel` put into a label; "activations" if there is none. */
export function purposeOf(label: string): MemoryPurpose {
  return memoryPurposes.find((purpose) => label.startsWith(`${purpose}: `)) ?? "activations";
}

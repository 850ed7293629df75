// Random directions around a checkpoint. Each tensor gets a Gaussian g of its own, generated from seed, slice and
// tensor name, and scaled to the tensor's norm: δ_W = g · ‖W‖ / ‖g‖. The Gaussians are not stored: they are computed
// again from their counters whenever they are needed. A tied embedding is one tensor, so it is perturbed once.
import { createHash } from "node:crypto";
import { norm, normOfDirection, type ParameterArena, philox, philoxKey, wordsOf } from "../../engine/index.ts";

/** The two directions of one slice, in the form that the perturb kernel expects. */
export interface Slice {
  readonly seed: number;
  readonly slice: number;
  readonly deltaKey: readonly [number, number];
  readonly etaKey: readonly [number, number];
  /** ‖W‖ / ‖g‖ of each tensor, for either direction. */
  readonly scales: ReadonlyMap<string, { readonly delta: number; readonly eta: number }>;
  /** SHA-256 over names, shapes and the first words of each tensor's streams: the same on any machine. */
  readonly digest: string;
}

/** @param signal  checked between two tensors */
export async function makeSlice(
  arena: ParameterArena,
  seed: number,
  slice: number,
  signal?: AbortSignal,
): Promise<Slice> {
  const deltaKey = philoxKey(`direction|${seed}|${slice}|delta`);
  const etaKey = philoxKey(`direction|${seed}|${slice}|eta`);
  const scales = new Map<string, { delta: number; eta: number }>();
  const digest = createHash("sha256");
  for (const name of arena.names) {
    signal?.throwIfAborted();
    const tensor = arena.value(name);
    const nameWords = wordsOf(name);
    const length = await norm(tensor);
    // A tensor of zeros has no scale of its own and stays as it is.
    const scaleOf = async (key: readonly [number, number]): Promise<number> =>
      length === 0 ? 0 : length / (await normOfDirection(tensor, key, nameWords));
    scales.set(name, { delta: await scaleOf(deltaKey), eta: await scaleOf(etaKey) });
    const words = [deltaKey, etaKey].flatMap((key) => [...philox([0, 0, ...nameWords], key)]);
    digest.update(`${name} [${tensor.shape}] ${words.join(" ")}\n`);
  }
  return { seed, slice, deltaKey, etaKey, scales, digest: digest.digest("hex") };
}

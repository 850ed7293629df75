// Scales the two directions of a slice until KL from the checkpoint at the grid's edge is what landscape.directions.kl asks for.
// With a share of each tensor's norm, one checkpoint, task or model hardly moves where another is destroyed; at one KL they compare.
import { isFixedKl } from "../direction-settings.ts";
import type { FixedKl } from "../files/slice-facts.ts";
import { type Direction, stepOf } from "./directions/direction.ts";
import { findScale, KL_TOLERANCE, MOST_PASSES } from "./fixed-kl.ts";
import { withKlAt } from "./kl-at.ts";
import type { Reference } from "./reference.ts";
import type { SweepContext } from "./sweep-context.ts";

interface Axes {
  readonly delta: Direction;
  readonly eta: Direction;
}

/** δ times `scale`: the same tensors on the device. */
const scaledBy = (direction: Direction, scale: number): Direction =>
  new Map([...direction].map(([name, one]) => [name, { ...one, scale: scale * one.scale }]));

/**
 * The scale of each direction with which KL is within 5% of the target at α = radius, β = 0, and at α = 0, β = radius. Null if no
 * target is set.
 */
export async function findGridScales(context: SweepContext, reference: Reference, axes: Axes): Promise<FixedKl | null> {
  const { directions, radius } = context.settings.landscape;
  if (!isFixedKl(directions)) return null;
  return withKlAt(context, reference, (klAt) =>
    scalesAtEdge(directions.kl, radius, (axis, scale) => {
      context.signal.throwIfAborted();
      const there = scaledBy(axes[axis], scale);
      return klAt((name) => stepOf(there.get(name), radius));
    }),
  );
}

/** @param klAt  KL at the edge along one direction times a scale, nats per token */
export async function scalesAtEdge(
  target: number,
  radius: number,
  klAt: (axis: "delta" | "eta", scale: number) => Promise<number>,
): Promise<FixedKl> {
  const search = { target, start: 1, tolerance: KL_TOLERANCE, mostPasses: MOST_PASSES };
  const scaleOf = async (axis: "delta" | "eta"): Promise<FixedKl["delta"]> => {
    const { scale, kl, passes } = await findScale(search, (tried) => klAt(axis, tried));
    return { scale, kl, passes: passes.map(([tried, found]) => [tried, found]) };
  };
  return { target, radius, delta: await scaleOf("delta"), eta: await scaleOf("eta") };
}

/** The directions at their scales; one that no scale was found for stays as it is. */
export const atScales = ({ delta, eta }: Axes, scales: FixedKl): Axes => ({
  delta: scaledBy(delta, scales.delta.scale ?? 1),
  eta: scaledBy(eta, scales.eta.scale ?? 1),
});

// All claims of a run, from its slices' evidence alone, and the file that has them (landscape/claims.json).
import type { Claim, ClaimedSlice, EvaluatedStep } from "./claim.ts";
import { concentration } from "./concentration.ts";
import { conversationsClaim } from "./conversations.ts";
import { type ExplorationPart, exploration } from "./exploration.ts";
import { onset } from "./onset.ts";
import { surrogateClaim } from "./surrogate-claim.ts";

/** Increases when a field changes its meaning or is removed. */
export const CLAIMS_SCHEMA_VERSION = 1;

export interface ClaimContext {
  readonly evaluations: readonly EvaluatedStep[];
  /** Whether the run has the original study's settings, so that its published numbers may be drawn beside. */
  readonly isStudyLike: boolean;
  /** Parts of T3 from other measurements than maps. */
  readonly explorationParts?: readonly ExplorationPart[];
}

/** Empty without a slice. */
export function claimsOf(
  slices: readonly ClaimedSlice[],
  { evaluations, isStudyLike, explorationParts }: ClaimContext,
): Claim[] {
  if (slices.length === 0) return [];
  return [
    concentration(slices, isStudyLike),
    onset(slices, evaluations),
    exploration(slices, explorationParts),
    surrogateClaim(slices),
    conversationsClaim(slices),
  ].filter((claim) => claim !== null);
}

export const writeClaims = (claims: readonly Claim[]): string =>
  `${JSON.stringify({ schemaVersion: CLAIMS_SCHEMA_VERSION, claims }, null, 1)}\n`;

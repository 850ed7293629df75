// The conversations of training steps, in files for people and for rl/show.ts.
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { ensureFolder, gzipMember, writeAtomic } from "../engine/host/index.ts";
import { trainingRolloutsPath } from "./files/layout.ts";
import type { StepBatch } from "./step-batch.ts";

type KeptBatch = Pick<StepBatch, "groups" | "advantages" | "used"> & {
  /** Whether a group is a member of a population instead of a prompt: its number is then written. Default false. */
  readonly isOfMembers?: boolean;
};

/** Writes the conversations of the step for people to read, one per line: rollouts/step-000001.jsonl.gz. */
export function keepRollouts(folder: string, step: number, batch: KeptBatch): void {
  const { groups, advantages, used, isOfMembers = false } = batch;
  const path = trainingRolloutsPath(folder, step);
  if (!existsSync(dirname(path))) ensureFolder(dirname(path));
  const memberOf = groups.flatMap((group, member) => group.map(() => member));
  const lines = groups.flat().map(({ episode, rollout, reward, parts, tokens, isTruncated, failure, messages }, i) => {
    const leftOut = used[i] ? {} : { isUsed: false };
    const about = {
      episode,
      rollout,
      ...(isOfMembers && { member: memberOf[i] }),
      reward,
      advantage: advantages[i],
      ...leftOut,
      ...parts,
      tokens,
      isTruncated,
      failure,
    };
    return JSON.stringify({ ...about, messages });
  });
  writeAtomic(path, gzipMember(`${lines.join("\n")}\n`));
}

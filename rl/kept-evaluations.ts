// The conversations of a training's evaluations, in files for people and for rl/show.ts. They are also the drafts of the next
// evaluation: it has the same episodes and the same noise, and the weights of a few steps later, so it mostly says the same.
// Drafts come from the file, never from memory. So a resumed run has those of an undisturbed one; and without them (a file that
// is missing or damaged) the results are the same bits.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { asError, ensureFolder, explained, gzipMember, type OnDamage, writeAtomic } from "../engine/host/index.ts";
import { type Answers, answersOf } from "./drafts.ts";
import { evaluationRolloutsPath, stepsOf } from "./files/layout.ts";
import { readEvaluationRollouts } from "./files/training-samples.ts";
import type { Rollout, RolloutRequest } from "./rollout.ts";

/** Writes the conversations of the evaluation after `step`, one per line: evaluations/step-000010.jsonl.gz. */
export function keepEvaluation(folder: string, step: number, rollouts: readonly Rollout[]): void {
  const path = evaluationRolloutsPath(folder, step);
  if (!existsSync(dirname(path))) ensureFolder(dirname(path));
  const lines = rollouts.map((one) => {
    const { episode, rollout, reward, parts, tokens, isTruncated, failure, messages } = one;
    const about = { episode, rollout, reward, ...parts, tokens, isTruncated, failure };
    return JSON.stringify({ ...about, messages, answers: answersOf(one) });
  });
  writeAtomic(path, gzipMember(`${lines.join("\n")}\n`));
}

/** The answers of an earlier evaluation to a request; null for none. */
export type EarlierAnswers = (request: Pick<RolloutRequest, "episode" | "rollout">) => Answers | null;

/**
 * The answers of the last evaluation before `step`; null if there is none, or if it cannot be read.
 * @param onDamage  called with a message about a file that cannot be read
 */
export function answersBefore(folder: string, step: number, onDamage: OnDamage): EarlierAnswers | null {
  const before = stepsOf(dirname(evaluationRolloutsPath(folder, 0))).findLast((one) => one < step);
  if (before === undefined) return null;
  const path = evaluationRolloutsPath(folder, before);
  try {
    const kept = new Map(
      readEvaluationRollouts(path).map(({ episode, rollout, answers }) => [`${episode},${rollout}`, answers]),
    );
    return ({ episode, rollout }) => kept.get(`${episode.index},${rollout}`) ?? null;
  } catch (thrown) {
    onDamage(
      `${path}: cannot be read (${asError(thrown).message.split("\n")[0]}). The evaluation of step ${step} begins without ` +
        "its answers as drafts, and has the same results.",
    );
    return null;
  }
}

/** Removes the files of evaluations that this run does not have: the last step of a shorter run was evaluated because it was the last. */
export function dropOtherEvaluations(folder: string, isEvaluated: (step: number) => boolean): void {
  const place = dirname(evaluationRolloutsPath(folder, 0));
  for (const step of stepsOf(place).filter((one) => !isEvaluated(one))) {
    const path = evaluationRolloutsPath(folder, step);
    explained(path, () => rmSync(path));
  }
  if (existsSync(place) && readdirSync(place).length === 0) explained(place, () => rmSync(place, { recursive: true }));
}

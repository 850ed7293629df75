// What a scorer returns, as a verdict. A scorer in JavaScript may return anything, and what it returns is averaged, written to
// files and read again. So everything that has a meaning is checked here, before it is used, and what does not fit costs the
// rollout: it has failed, with a message that names the part.
import { asError } from "../../engine/host/index.ts";
import { type Episode, type Reward, type Score, turnsOf } from "./environment.ts";
import { isObject, shown } from "./user-values.ts";

/** The parts that have a meaning (`RewardParts`). */
const knownParts = ["turnScores", "formatFailed", "rewards"] as const;

/** Fields of a rollout in the files of a run (keep-rollouts.ts, kept-evaluations.ts), beside which the parts are written. */
const fieldsOfRollouts: ReadonlySet<string> = new Set([
  ...["episode", "rollout", "member", "reward", "advantage", "isUsed"],
  ...["tokens", "isTruncated", "failure", "messages", "answers"],
]);

/**
 * A scorer's result as a verdict.
 * @throws Error when the reward is not a finite number, or its parts do not fit the episode or cannot be written to files
 */
export function verdictOf(episode: Episode, score: Score): Reward {
  // An array is an object to TypeScript's eyes too, but no reward.
  const verdict: Reward = isReward(score) ? score : { reward: score };
  const refuse = (what: string): never => {
    throw new Error(`episode ${episode.index}: ${what}`);
  };
  if (!Number.isFinite(verdict.reward))
    return refuse(
      Object.hasOwn(verdict, "reward")
        ? `expected a finite reward, got ${shown(verdict.reward)}`
        : `expected a finite reward, got an object without "reward" (${Object.keys(verdict).join(", ") || "it is empty"})`,
    );
  const misplaced = knownParts.find((part) => part in verdict);
  if (misplaced !== undefined)
    return refuse(
      `"${misplaced}" stands beside the reward, where nothing reads it: return { reward, parts: { ${misplaced} } }`,
    );
  const parts: unknown = verdict.parts;
  if (parts === undefined) return verdict;
  if (parts === null) return { ...verdict, parts: undefined };
  if (!isObject(parts) || Array.isArray(parts)) return refuse(`expected parts as an object, got ${shown(parts)}`);
  const problem = partsProblem(parts, turnsOf(episode)) ?? writingProblem(parts);
  return problem === null ? verdict : refuse(problem);
}

function partsProblem(parts: Readonly<Record<string, unknown>>, turns: number): string | null {
  const { turnScores, formatFailed, rewards } = parts;
  // The score of a turn without the requested form is read by nobody, so it may be anything that is a number, NaN too.
  const isUnread = (turn: number): boolean => Array.isArray(formatFailed) && formatFailed[turn] === true;
  const perTurn = [
    {
      ...{ name: "formatFailed", given: formatFailed, each: "true or false" },
      isFitting: (one: unknown): boolean => typeof one === "boolean",
    },
    {
      ...{ name: "turnScores", given: turnScores, each: "a finite number" },
      isFitting: (one: unknown, turn: number): boolean =>
        Number.isFinite(one) || (typeof one === "number" && isUnread(turn)),
    },
  ];
  for (const { name, given, each, isFitting } of perTurn) {
    if (given === undefined) continue;
    if (!Array.isArray(given)) return `${name}: expected a list with ${each} per turn, got ${shown(given)}`;
    const wrong = given.findIndex((one, turn) => !isFitting(one, turn));
    if (wrong >= 0) return `${name}: expected ${each} per turn, got ${shown(given[wrong])} for turn ${wrong + 1}`;
  }
  const counts = (list: unknown): number | null => (Array.isArray(list) ? list.length : null);
  if ((counts(turnScores) ?? turns) !== turns || (counts(formatFailed) ?? turns) !== turns)
    return (
      `expected parts for ${turns} turns, got ${counts(turnScores) ?? "no"} scores and ` +
      `${counts(formatFailed) ?? "no"} format flags`
    );
  if (rewards === undefined) return null;
  if (!isObject(rewards) || Array.isArray(rewards))
    return `rewards: expected an object of numbers by name, got ${shown(rewards)}`;
  const wrong = Object.entries(rewards).find(([, value]) => !Number.isFinite(value));
  return wrong === undefined ? null : `expected a finite reward of ${wrong[0]}, got ${shown(wrong[1])}`;
}

/** Parts of the user's own are kept in the files of the rollouts, in JSON. */
function writingProblem(parts: Readonly<Record<string, unknown>>): string | null {
  const taken = Object.keys(parts).find((name) => fieldsOfRollouts.has(name));
  if (taken !== undefined)
    return `parts: "${taken}" is a field of the rollout itself, in rollouts/ and evaluations/. Give it another name`;
  const own = Object.keys(parts).filter((name) => !knownParts.some((known) => known === name));
  for (const name of own)
    try {
      JSON.stringify(parts[name]);
    } catch (thrown) {
      return `parts: "${name}" cannot be written as JSON: ${asError(thrown).message.split("\n")[0]}`;
    }
  return null;
}

const isReward = (score: Score): score is Reward => isObject(score) && !Array.isArray(score);

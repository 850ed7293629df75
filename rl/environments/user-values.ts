// What a user's module gives may be anything: it is JavaScript, or TypeScript that nobody checked. Here is what messages about it
// have in common.
import { fileURLToPath } from "node:url";
import { asError, UserError } from "../../engine/host/index.ts";

/** An environment fails: too many of its rollouts, or its list of episodes. The state of the last whole step is saved. */
export class EnvironmentError extends UserError {
  override name = "EnvironmentError";
}

export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;

/** A value for messages, with what it is unless that can be seen. */
export function shown(value: unknown): string {
  if (typeof value === "string") return `the text ${JSON.stringify(value.slice(0, 60))}`;
  if (typeof value === "bigint") return `the bigint ${value}n`;
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return "a list";
  return isObject(value) ? "an object" : String(value);
}

/**
 * Calls a function of an environment before any rollout, where its error is none of a rollout.
 * @param what  environment and function, for the message
 * @throws EnvironmentError with the error's message and the line of the file that it came from; an error that is meant for users
 *   (UserError) as it is
 */
export function ofEnvironment<T>(what: string, body: () => T): T {
  try {
    return body();
  } catch (thrown) {
    throw asEnvironmentError(what, thrown);
  }
}

/** The error of `ofEnvironment`. */
export function asEnvironmentError(what: string, thrown: unknown): Error {
  const error = asError(thrown);
  if (error instanceof UserError) return error;
  const place = /\(?(file:[^)\s]+?)(:\d+):\d+\)?$/m.exec(error.stack ?? "");
  const where = place === null ? "" : ` (${fileURLToPath(place[1])}${place[2]})`;
  return new EnvironmentError(`${what} failed: ${error.message || "unnamed error"}${where}`, { cause: error });
}

// The episodes of an environment, each checked when it is made: a prompt that is no text, or a number of turns that is none, would
// fail late and far from its cause, or not at all.
import { EnvironmentError, isObject, ofEnvironment, shown } from "./user-values.ts";

interface Listed<E> {
  readonly name: string;
  episodes(seed: number): Iterable<E>;
}

/**
 * An environment's episodes, in order.
 * @throws EnvironmentError when its list cannot be made, or an episode is none
 */
export function* checkedEpisodes<E>(environment: Listed<E>, seed: number): Generator<E> {
  const { name } = environment;
  const what = `environment "${name}": episodes(${seed})`;
  const list: unknown = ofEnvironment(what, () => environment.episodes(seed));
  if (!isIterable<E>(list))
    throw new EnvironmentError(
      `${what}: expected a list, or what a generator (function*) gives, got ${unlisted(list)}`,
    );
  const iterator = ofEnvironment(what, () => list[Symbol.iterator]());
  for (let position = 0; ; position++) {
    const next = ofEnvironment(what, () => iterator.next());
    if (next.done) return;
    const problem = episodeProblem(next.value);
    if (problem !== null) throw new EnvironmentError(`${what}: episode ${position}: ${problem}`);
    yield next.value;
  }
}

const isIterable = <E>(value: unknown): value is Iterable<E> =>
  isObject(value) && typeof Reflect.get(value, Symbol.iterator) === "function";

function unlisted(value: unknown): string {
  if (isObject(value) && Symbol.asyncIterator in value)
    return "an async generator. Read what it waits for in open, which may be async";
  if (isObject(value) && "then" in value) return "a promise. Read what it waits for in open, which may be async";
  return shown(value);
}

/** The fields of an episode that is one: what each must be, and whether it is. */
const fields: readonly (readonly [string, string, (value: unknown) => boolean])[] = [
  [
    "index",
    "a whole number from 0, its position in the list",
    (value) => Number.isSafeInteger(value) && Number(value) >= 0,
  ],
  ["prompt", "a text", (value) => typeof value === "string"],
  ["systemPrompt", "a text, or none", (value) => value === undefined || typeof value === "string"],
  [
    "turns",
    "a whole number from 1, or none",
    (value) => value === undefined || (Number.isSafeInteger(value) && Number(value) >= 1),
  ],
  ["nextUserTurn", "a function, or none", (value) => value === undefined || typeof value === "function"],
  ["score", "a function", (value) => typeof value === "function"],
  ["isBounded", "true or false, or none", (value) => value === undefined || typeof value === "boolean"],
];

/** What is wrong with an episode that a module gives, or null. */
function episodeProblem(episode: unknown): string | null {
  if (!isObject(episode)) return `expected an object with index, prompt and score, got ${shown(episode)}`;
  const wrong = fields.find(([name, , isFitting]) => !isFitting(episode[name]));
  return wrong === undefined ? null : `${wrong[0]}: expected ${wrong[1]}, got ${shown(episode[wrong[0]])}`;
}

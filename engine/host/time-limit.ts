// A time limit for a function that may not return. Node's vm module stops it from a thread of its own, whatever code it runs, a
// regular expression too. Starting and joining that thread takes 80 to 150 µs of processor time per call, and far more on
// the clock if the processors are busy.
import { Script } from "node:vm";
import { asError } from "./errors.ts";

/** Where the script below finds the function to call: a script shares only the global object with its caller. */
const place = Symbol.for("foothold.limitedCall");
const script = new Script("globalThis[Symbol.for('foothold.limitedCall')]()");

/**
 * Calls a function and stops it at the limit.
 * @param tooSlow  makes the error to throw when it is stopped
 * @throws what `tooSlow` makes; whatever `body` throws
 */
export function callWithin<T>(seconds: number, body: () => T, tooSlow: () => Error): T {
  let result: { readonly value: T } | null = null;
  const before: unknown = Reflect.get(globalThis, place);
  Reflect.set(globalThis, place, () => {
    result = { value: body() };
  });
  try {
    script.runInThisContext({ timeout: Math.ceil(seconds * 1000), displayErrors: false });
  } catch (thrown) {
    const error = asError(thrown);
    if ("code" in error && error.code === "ERR_SCRIPT_EXECUTION_TIMEOUT") throw tooSlow();
    throw thrown;
  } finally {
    Reflect.set(globalThis, place, before);
  }
  if (result === null) throw new Error("callWithin: the function ended without a result");
  return (result as { readonly value: T }).value;
}

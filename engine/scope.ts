// Who frees device memory. A scope owns every tensor made while it is the innermost one, and frees them when it ends, but
// for those it was asked to keep, which pass to the scope around it (or, outside all scopes, to the caller).

/** What a scope frees. */
export interface Freeable {
  free(): void;
}

/** Whatever stands on something that a scope frees: a tensor on its storage. */
export interface Owner {
  readonly storage: Freeable;
}

class Scope {
  readonly storages = new Set<Freeable>();
}

const stack: Scope[] = [];

export function registerInScope(storage: Freeable): void {
  stack.at(-1)?.storages.add(storage);
}

function end(scope: Scope, kept: readonly Owner[]): void {
  if (stack.pop() !== scope) throw new Error("scope: scopes must end in the order they were opened, innermost first");
  for (const tensor of kept) if (scope.storages.delete(tensor.storage)) registerInScope(tensor.storage);
  for (const storage of scope.storages) storage.free();
}

/** The tensors inside a result: itself, or the members of an array, a map or a plain object, one level deep. */
function tensorsIn(result: unknown): Owner[] {
  const isTensor = (x: unknown): x is Owner => typeof x === "object" && x !== null && "segments" in x && "storage" in x;
  if (isTensor(result)) return [result];
  if (typeof result !== "object" || result === null) return [];
  const members = result instanceof Map ? result.values() : Object.values(result);
  return [...members].filter(isTensor);
}

/** Runs `body`; frees all it allocated except the tensors in its result. */
export function scope<T>(body: () => T): T {
  const own = new Scope();
  stack.push(own);
  try {
    const result = body();
    end(own, tensorsIn(result));
    return result;
  } catch (error) {
    if (stack.includes(own)) {
      stack.length = stack.indexOf(own) + 1;
      end(own, []);
    }
    throw error;
  }
}

/** `scope` for a body that waits. Nothing else may allocate meanwhile: one line of work at a time. */
export async function scopeAsync<T>(body: () => Promise<T>): Promise<T> {
  const own = new Scope();
  stack.push(own);
  try {
    const result = await body();
    end(own, tensorsIn(result));
    return result;
  } catch (error) {
    if (stack.includes(own)) {
      stack.length = stack.indexOf(own) + 1;
      end(own, []);
    }
    throw error;
  }
}

/** Takes a tensor out of all scopes: the caller frees it. */
export function keep<T extends Owner>(tensor: T): T {
  for (const scopeOnStack of stack) scopeOnStack.storages.delete(tensor.storage);
  return tensor;
}

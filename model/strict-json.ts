// A strict JSON parser. JSON.parse keeps the last of two equal keys, turns 2.0 into 2 and 2⁵³ + 1 into 2⁵³, and writes
// to an object's prototype. In a header that locates weights, each of these hides damage. Here objects are Maps without
// duplicate keys, whole numbers are exact, and text is valid Unicode.

/** A whole number is a bigint; one with a fraction, an exponent or more than 19 digits is a number. */
export type StrictJson = null | boolean | string | bigint | number | StrictJson[] | Map<string, StrictJson>;

const maximumDepth = 100;
const whitespace = /[ \t\n\r]*/y;
const numeral = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// Up to the closing quote: no raw control character, no backslash outside an escape.
const quoted = /"(?:[^"\\\p{Cc}]|[\x7f-\x9f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy;
const words: [string, StrictJson][] = [
  ["true", true],
  ["false", false],
  ["null", null],
];

/**
 * Parses one JSON value with nothing after it.
 * @throws SyntaxError with the position of the error, in UTF-16 units
 */
export function parseStrictJson(text: string): StrictJson {
  let at = 0;

  const fail = (what: string): never => {
    const found = at < text.length ? JSON.stringify(text.slice(at, at + 16)) : "the end";
    throw new SyntaxError(`${what} at position ${at}, got ${found}`);
  };

  const match = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found === null) return null;
    at += found[0].length;
    return found[0];
  };

  const takes = (mark: string): boolean => {
    match(whitespace);
    if (!text.startsWith(mark, at)) return false;
    at += mark.length;
    return true;
  };

  const string = (): string => {
    match(whitespace);
    const start = at;
    const source = match(quoted) ?? fail("expected a string");
    const value: unknown = JSON.parse(source);
    if (typeof value === "string" && value.isWellFormed()) return value;
    at = start;
    return fail("expected text without half surrogate pairs");
  };

  // Items until `close`, with commas between them and no trailing comma.
  const list = (close: string, item: () => void): void => {
    if (takes(close)) return;
    do item();
    while (takes(","));
    if (!takes(close)) fail(`expected "," or "${close}"`);
  };

  const value = (depth: number): StrictJson => {
    if (depth > maximumDepth) fail(`expected at most ${maximumDepth} levels`);
    if (takes("{")) {
      const members = new Map<string, StrictJson>();
      list("}", () => {
        const key = string();
        if (members.has(key)) fail(`expected the key ${JSON.stringify(key)} once, it occurs twice,`);
        if (!takes(":")) fail('expected ":"');
        members.set(key, value(depth + 1));
      });
      return members;
    }
    if (takes("[")) {
      const items: StrictJson[] = [];
      list("]", () => items.push(value(depth + 1)));
      return items;
    }
    if (text[at] === '"') return string();
    for (const [word, meaning] of words) if (takes(word)) return meaning;
    const source = match(numeral) ?? fail("expected a value");
    return /^(?:0|-?[1-9]\d{0,18})$/.test(source) ? BigInt(source) : Number(source);
  };

  const whole = value(0);
  match(whitespace);
  if (at < text.length) fail("expected the end");
  return whole;
}

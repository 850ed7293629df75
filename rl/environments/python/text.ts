// Python's `str.strip`, `str.lower` and `str.isupper` where JavaScript differs: a reward compares texts that these made.
// Strings are sequences of code points there and of UTF-16 units here, hence `codePoints`.
//
// Case tables follow the Unicode version of the running Node, those of the original followed its Python's; the two
// differ in characters that one of them does not know yet, and in nothing else.

// str.isspace: U+001C to U+001F and U+0085 count, U+FEFF does not; JavaScript's trim has it the other way round.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const OUTER_SPACE = new RegExp(`^${SPACE}+|${SPACE}+$`, "g");

/** `text.strip()`. */
export function strip(text: string): string {
  return text.replace(OUTER_SPACE, "");
}

/** `text.lower()`: Unicode's full mapping in no locale, final sigma included. JavaScript's own is the same one. */
export function lower(text: string): string {
  return text.toLowerCase();
}

/** `character.isupper()` for one code point: Lu and Other_Uppercase; titlecase letters are not upper case. */
export function isUpper(character: string): boolean {
  return /^\p{Uppercase}$/u.test(character);
}

/** The code points of a text: what Python indexes, counts and compares. */
export function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) ?? 0);
}

/** Order of Python's `<` on strings, by code point (JavaScript's `<` puts U+10000 before U+E000): negative, 0, positive. */
export function compareCodePoints(a: string, b: string): number {
  const left = codePoints(a);
  const right = codePoints(b);
  for (let i = 0; i < left.length && i < right.length; i++) if (left[i] !== right[i]) return left[i] - right[i];
  return left.length - right.length;
}

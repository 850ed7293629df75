// Python's `str.strip`, `str.lower` and `str.isupper`, which differ in JavaScript: a reward compares texts processed by
// them. Python's strings are sequences of code points, JavaScript's of UTF-16 units; `codePoints` converts.
//
// Case tables follow the Unicode version of the running Node; the original's followed that of its Python. They differ
// only in characters that are new in one of the two versions.

// str.isspace: U+001C to U+001F and U+0085 count as white space, U+FEFF does not. JavaScript's trim does the opposite.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const OUTER_SPACE = new RegExp(`^${SPACE}+|${SPACE}+$`, "g");

/** `text.strip()`. */
export function strip(text: string): string {
  return text.replace(OUTER_SPACE, "");
}

/**
 * `text.lower()`: Unicode's full mapping without a locale, including final sigma. JavaScript's toLowerCase is the same.
 */
export function lower(text: string): string {
  return text.toLowerCase();
}

/** `character.isupper()` for one code point: Lu and Other_Uppercase; titlecase letters are not upper case. */
export function isUpper(character: string): boolean {
  return /^\p{Uppercase}$/u.test(character);
}

/** The code points of a text, which are the units that Python indexes, counts and compares. */
export function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) ?? 0);
}

/**
 * Compares as Python's `<` on strings, by code point (JavaScript's `<` puts U+10000 before U+E000): negative, 0,
 * positive.
 */
export function compareCodePoints(a: string, b: string): number {
  const left = codePoints(a);
  const right = codePoints(b);
  for (let i = 0; i < left.length && i < right.length; i++) if (left[i] !== right[i]) return left[i] - right[i];
  return left.length - right.length;
}

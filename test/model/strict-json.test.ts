import * as assert from "uvu/assert";
import { parseStrictJson, type StrictJson } from "../../model/strict-json.ts";
import { describe, throwsMessage } from "../support.ts";

/** As JSON.parse gives it, to compare with. */
function plain(value: StrictJson): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, member]) => [key, plain(member)]));
  if (Array.isArray(value)) return value.map(plain);
  return typeof value === "bigint" ? Number(value) : value;
}

describe("model/strict-json", (test) => {
  test("reads what JSON.parse reads", () => {
    for (const text of [
      "null",
      " \t\n\r[ ] ",
      '{"a":[1,-2.5e-3,{"b":{}}],"":"x"}',
      '"\\u0041\\n\\"\\\\ \\/ \\ud83d\\ude00 é 日本 😀 \x7f"',
      "[true,false,null,0,-0,10,1E5]",
    ])
      assert.equal(plain(parseStrictJson(text)), JSON.parse(text));
  });

  test("whole numbers are exact, others are not taken for whole", () => {
    assert.equal(parseStrictJson("[9007199254740993, 2.0, 1e2, -0, 18446744073709551618]"), [
      9007199254740993n,
      2,
      100,
      -0,
      2 ** 64,
    ]);
  });

  test("names of an object's prototype are names like any other", () => {
    const object = parseStrictJson('{"__proto__":1,"constructor":2}');
    assert.equal(
      object,
      new Map([
        ["__proto__", 1n],
        ["constructor", 2n],
      ]),
    );
  });

  const refused: Record<string, string[]> = {
    "a name twice": ['{"a":1,"a":1}', '"a" once', "position 10"],
    "a comma too many": ["[1,]", "position 3"],
    "a comma too few": ["[1 2]", '"," or "]"'],
    "text after the end": ["{} x", "expected the end", '"x"'],
    "an end too early": ['{"a":', "the end"],
    nothing: ["", "the end"],
    "a leading zero": ["[01]", "position 2"],
    NaN: ["NaN", "expected a value"],
    "single quotes": ["'a'", "expected a value"],
    "a raw control character": ['"\u0001"', "expected a string"],
    "half a surrogate pair, escaped": ['"\\ud800"', "surrogate"],
    "half a surrogate pair": ['"\ud800"', "surrogate"],
    "a byte order mark": ["\ufeff{}", "position 0"],
    "bottomless nesting": ["[".repeat(100_000), "levels"],
  };
  for (const [what, [text, ...messages]] of Object.entries(refused))
    test(`refuses ${what}`, () => throwsMessage(() => parseStrictJson(text), ...messages));
});

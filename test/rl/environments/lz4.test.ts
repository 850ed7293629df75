// Blocks of LZ4, taken apart by hand from the description of the format; damaged ones. Whole files: names.test.ts.
import { equal, is, throws } from "uvu/assert";
import { decompressLz4 } from "../../../rl/environments/lz4.ts";
import { describe } from "../../support.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const letters = (word: string): number[] => [...Buffer.from(word, "latin1")];

describe("rl/environments/lz4", (test) => {
  test("literals, and matches that reach into what they write", () => {
    equal(text(decompressLz4(Uint8Array.of(0x30, ...letters("abc")), 3)), "abc");
    // "ab", then 4 + 3 bytes from 2 back, then "c".
    equal(text(decompressLz4(Uint8Array.of(0x23, ...letters("ab"), 2, 0, 0x10, ...letters("c")), 10)), "ababababac");
    is(decompressLz4(Uint8Array.of(0), 0).length, 0);
  });

  test("counts of 15 and more go on in further bytes", () => {
    const literals = "x".repeat(15 + 255);
    equal(text(decompressLz4(Uint8Array.of(0xf0, 255, 0, ...letters(literals)), 270)), literals);
    // One literal, then 15 + 255 + 7 + 4 times the same.
    equal(text(decompressLz4(Uint8Array.of(0x1f, ...letters("y"), 1, 0, 255, 7, 0), 282)), "y".repeat(282));
  });

  test("a damaged block is refused: it ends early, reaches too far back, or has another length", () => {
    const cases: readonly (readonly [what: string, block: number[], length: number])[] = [
      ["literals are missing", [0x30, 97], 3],
      ["the distance is missing", [0x10, 97, 1], 5],
      ["a distance of 0", [0x10, 97, 0, 0, 0], 5],
      ["before the beginning", [0x10, 97, 2, 0, 0], 5],
      ["a match longer than the output", [0x14, 97, 1, 0, 0], 5],
      ["too few bytes", [0x30, ...letters("abc")], 4],
      ["too many bytes", [0x30, ...letters("abc")], 2],
      ["a count without an end", [0xf0, 255], 300],
    ];
    for (const [what, block, length] of cases)
      throws(() => decompressLz4(Uint8Array.from(block), length), /its pages are not sound LZ4/, what);
  });
});

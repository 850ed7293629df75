import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { FileError } from "../../../engine/host/index.ts";
import { firstNames, generatedNames, lastNames, listedNames, readNameRows } from "../../../rl/environments/names.ts";
import { PythonRandom } from "../../../rl/environments/python/random.ts";
import { describe, fixturePath, throwsMessage } from "../../support.ts";
import { knownPath, readKnown } from "../known/read.ts";

function take<T>(count: number, items: Iterable<T>): T[] {
  const taken: T[] = [];
  for (const item of items) {
    if (taken.length === count) break;
    taken.push(item);
  }
  return taken;
}

describe("rl/environments/names", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-names-"));
  test.after(() => rmSync(folder, { recursive: true }));
  const write = (name: string, content: string | Uint8Array): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };

  test("the built-in names: 48 first and 48 last, ASCII, 2 to 7 letters", () => {
    equal([firstNames.length, lastNames.length], [48, 48]);
    const names = [...firstNames, ...lastNames];
    is(new Set(names).size, 96);
    for (const name of names) ok(/^[A-Z][a-z]{1,6}$/.test(name), name);
  });
  const tokenizerPath = fixturePath("tiny-warm-start/tokenizer.json");
  const isAToken = "the built-in names are tokens of the tiny model";
  if (!existsSync(tokenizerPath)) test.skip(isAToken, `no ${tokenizerPath}`);
  else
    test(isAToken, () => {
      const tokenizer: unknown = JSON.parse(readFileSync(tokenizerPath, "utf8"));
      ok(typeof tokenizer === "object" && tokenizer !== null && "added_tokens" in tokenizer);
      ok(Array.isArray(tokenizer.added_tokens));
      const tokens = new Set(tokenizer.added_tokens.map((token: { content: string }) => token.content));
      equal(
        [...firstNames, ...lastNames].filter((name) => !tokens.has(name)),
        [],
      );
    });
  test("a seed's rows are the same on every call, another seed's are not", () => {
    const rows = (seed: number) => take(50, generatedNames().rows(seed));
    equal(rows(12345), rows(12345));
    ok(rows(12345)[0].join() !== rows(12346)[0].join());
    for (const row of rows(12345)) is(row.length, 12);
  });
  test("the rows of a seed stay what they were", () => {
    // CPython: random.Random(int.from_bytes(sha256(b"names|12345").digest()[:8], "little")), choice(first), choice(last), …
    equal(take(1, generatedNames(3).rows(12345)), [["Yuki Bauer", "Jan Bauer", "Zoe Nash"]]);
  });
  test("first and last names are uniform and independent", () => {
    const counts = new Map<string, number>();
    const names = take(1000, generatedNames(24).rows(1)).flat();
    for (const name of names) for (const part of name.split(" ")) counts.set(part, (counts.get(part) ?? 0) + 1);
    is(counts.size, firstNames.length + lastNames.length);
    // 24,000 draws over 48: expected 500, deviation 22; five deviations leave one run in 10⁵ outside for 96 counts.
    for (const [part, count] of counts) ok(Math.abs(count - 500) < 110, `${part}: ${count}`);
    // 2,304 pairs, each met 10.4 times on average: all but about one in 30,000 are met.
    ok(new Set(names).size >= 2300);
  });
  test("draw takes a row of the file by the caller's stream", () => {
    const names = listedNames([["A B"], ["C D"], ["E F"]], "three rows");
    const drawn = new Set(Array.from({ length: 30 }, (_, seed) => names.draw(new PythonRandom(seed))[0]));
    is(drawn.size, 3);
  });
  test("refuses rows of no names", () => throwsMessage(() => generatedNames(0), "from 1 on, got 0"));

  // pyarrow's own files: test/rl/known/names_parquet.py.
  const rows = readKnown<string[][]>("names.json");
  for (const file of [
    "names.json",
    ...["none", "snappy", "gzip", "zstd", "brotli", "lz4"].map((c) => `names-${c}.parquet`),
  ])
    test(`reads ${file}`, async () => {
      const names = await readNameRows(knownPath(file));
      equal([...names.rows(1)], rows);
      is(names.source, knownPath(file));
    });
  test("reads lines: lists, or objects with names; empty lines are skipped", async () => {
    const path = write(
      "rows.jsonl",
      `${rows.map((r, i) => JSON.stringify(i % 2 ? r : { names: r })).join("\n\n")}\r\n`,
    );
    equal([...(await readNameRows(path)).rows(1)], rows);
  });

  test("a line ends at LF or CRLF alone: U+2028 and U+2029 stand within names as JSON allows", async () => {
    const strange = [["A\u2028B", "C\u2029D"], ["E F"]];
    for (const end of ["\n", "\r\n"]) {
      const lines = strange.map((row) => JSON.stringify(row));
      ok(lines[0].includes("\u2028") && lines[0].includes("\u2029"), "raw, not escaped");
      equal([...(await readNameRows(write("strange.jsonl", lines.join(end)))).rows(1)], strange);
    }
  });
  test("a byte order mark is no part of the file", async () => {
    equal([...(await readNameRows(write("mark.jsonl", '\ufeff["A B"]\n'))).rows(1)], [["A B"]]);
    equal([...(await readNameRows(write("mark.json", '\ufeff[["A B"]]'))).rows(1)], [["A B"]]);
  });

  test("lines of JSON may be named .json, as data sets of the hub have them", async () => {
    equal([...(await readNameRows(write("lines.json", '["A B"]\n["C D"]\n'))).rows(1)], [["A B"], ["C D"]]);
    await throwsMessage(() => readNameRows(write("lines.json", '["A B"]\n["C D"\n')), "lines.json: line 2 is not JSON");
  });

  const halfParquet = readFileSync(knownPath("names-snappy.parquet")).subarray(0, 900);
  const refused: readonly (readonly [what: string, name: string, content: string | Uint8Array, ...texts: string[]])[] =
    [
      ["another ending", "rows.txt", "Ada", ".json, .jsonl, .parquet", '".txt"'],
      ["no list", "object.json", "{}", "object.json: expected a list of rows, got an object"],
      ["not JSON", "cut.json", "[[", "cut.json: cannot be read as json"],
      [
        "another encoding",
        "latin1.jsonl",
        Buffer.from('["J\xf6rg Hopper"]\n', "latin1"),
        "latin1.jsonl: expected text in UTF-8",
      ],
      [
        "another encoding",
        "latin1.json",
        Buffer.from('[["J\xf6rg Hopper"]]', "latin1"),
        "latin1.json: expected text in UTF-8",
      ],
      ["no Parquet", "empty.parquet", "", "empty.parquet: is no whole Parquet file"],
      ["half a Parquet file", "half.parquet", halfParquet, "half.parquet: is no whole Parquet file", "PAR1"],
      ["no rows", "empty.json", "[]", "expected rows of names, got none"],
      ["no rows", "empty.jsonl", "\n", "expected rows of names, got none"],
      ["a row that is none", "number.json", '[["A B"], 4]', "row 2: expected a list of names", "got a number"],
      ["a name that is none", "name.json", '[["A B", null]]', "row 1: expected strings, got null as name 2"],
      ["an object without names", "x.jsonl", '{"names": ["A B"]}\n{"name": 1}', "line 2: expected a list of names"],
      ["a line that is not JSON", "y.jsonl", '["A B"]\n\nAda', "y.jsonl: line 3 is not JSON"],
      ["no parquet", "z.parquet", "hello world, hello", "z.parquet: is no whole Parquet file"],
    ];
  for (const [what, name, content, ...texts] of refused)
    test(`refuses ${what}: ${name}`, async () => {
      const error = await throwsMessage(() => readNameRows(write(name, content)), ...texts);
      ok(error instanceof FileError);
    });
  for (const [name, ...texts] of [
    ["absent.json", "absent.json: no such file or folder", "ENOENT"],
    ["absent.jsonl", "absent.jsonl", "ENOENT"],
    ["absent.parquet", "absent.parquet", "ENOENT"],
  ])
    test(`refuses a file that is not there: ${name}`, async () => {
      const error = await throwsMessage(() => readNameRows(join(folder, name)), ...texts);
      ok(error instanceof FileError);
    });
  test("refuses parquet without a column of names, or with a null among them", async () => {
    await throwsMessage(
      () => readNameRows(knownPath("names-absent.parquet")),
      'names-absent.parquet: expected a column "names", got line.',
    );
    await throwsMessage(() => readNameRows(knownPath("names-null.parquet")), "row 2: expected strings, got null");
  });
});

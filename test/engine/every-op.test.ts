// Every op is proved by checkOp: one that is added without fails here.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe } from "../support.ts";

const engine = fileURLToPath(new URL("../../engine", import.meta.url));
const tests = fileURLToPath(new URL(".", import.meta.url));

function filesBelow(folder: string, ending: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(ending))
    .map((file) => join(folder, file))
    .sort();
}

/** Ops that checkOp cannot prove, and what does. */
const provedOtherwise: Readonly<Record<string, string>> = {
  mixedLinearOp:
    "reads copies rounded to f16, a staircase without slopes: linear.test.ts gives it to checkOp as the f16 mode of linearOp",
  mixedLinearTripleOp: "likewise: joined.test.ts gives it to checkOp as the f16 mode of linearTripleOp",
  mixedGatedLinearOp: "likewise: joined.test.ts gives it to checkOp as the f16 mode of gatedLinearOp",
  mixedHeadOp: "likewise: mixed-head.test.ts gives it to checkOp as the f16 mode of headOp",
  mixedKlDivergenceOp: "likewise: mixed-head.test.ts gives it to checkOp as the f16 mode of klDivergenceOp",
};

/** Exported names of ops, by the name that each op goes by. */
async function opsOf(files: readonly string[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const file of files) {
    if (!/\bdefineOp\b/.test(readFileSync(file, "utf8"))) continue;
    const exported: Record<string, unknown> = await import(pathToFileURL(file).href);
    for (const [name, value] of Object.entries(exported))
      if (typeof value === "function" && "definition" in value) found.set(name, file);
  }
  return found;
}

/** Names that a file hands to checkOp: as they are, or from a list that a loop goes through. */
function checkedNames(text: string): string[] {
  return [...text.matchAll(/\bcheckOp\(\s*\w+,\s*(\w+)/g)].flatMap(([, name]) => {
    const list = text.match(new RegExp(`\\bfor \\(const ${name} of \\[([^\\]]*)\\]`));
    return list === null ? [name] : list[1].split(",").map((one) => one.trim());
  });
}

describe("engine/every-op", (test) => {
  test("every op is proved by checkOp", async () => {
    const ops = await opsOf(filesBelow(engine, ".ts"));
    assert.ok(ops.size > 0, "no op was found");
    const checked = new Set(filesBelow(tests, ".test.ts").flatMap((file) => checkedNames(readFileSync(file, "utf8"))));
    const missing = [...ops].filter(([name]) => !checked.has(name) && !(name in provedOtherwise));
    assert.deepEqual(
      missing.map(([name, file]) => `${file}: ${name}: no checkOp(test, ${name}, …)`),
      [],
    );
    for (const name of Object.keys(provedOtherwise))
      assert.ok(ops.has(name) && !checked.has(name), `${name}: no such op, or checkOp proves it: no exception needed`);
  });

  test("an op that is not exported, so that no test can reach it, is found too", async () => {
    // One export at least for each call; a function that makes several ops calls defineOp once.
    for (const file of filesBelow(engine, ".ts").filter((name) => !name.endsWith("op.ts"))) {
      const calls = readFileSync(file, "utf8").match(/\bdefineOp[(<]/g) ?? [];
      const exported = (await opsOf([file])).size;
      assert.ok(exported >= calls.length, `${file}: ${calls.length} × defineOp, ${exported} exported`);
    }
  });

  test("names are read as they are written in tests", () => {
    assert.deepEqual(checkedNames("checkOp(test, add, {"), ["add"]);
    assert.deepEqual(checkedNames("for (const op of [softmax, logSoftmax])\n checkOp(test, op, {"), [
      "softmax",
      "logSoftmax",
    ]);
    assert.deepEqual(checkedNames("checkOps(test, add)"), []);
  });
});

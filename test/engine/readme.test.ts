// The example of engine/README.md: it runs as it stands, from outside the source tree, and prints what the page says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { assertClose, describe } from "../support.ts";
import { codeBlocks, projectFolder, runProgram, typeErrors } from "./code-blocks.ts";

const page = readFileSync(new URL("../../engine/README.md", import.meta.url), "utf8");
const [example, output] = codeBlocks(page);

const lossesOf = (text: string): { step: number; loss: number }[] =>
  text
    .trim()
    .split("\n")
    .map((line) => {
      const [, step, loss] = /^step (\d+): loss (\d\.\d{4})$/.exec(line) ?? [];
      return { step: Number(step), loss: Number(loss) };
    });

describe("engine/readme", (test) => {
  const expected = lossesOf(output.text);

  test("the example is short, and its output belongs to it", () => {
    assert.equal(example.language, "ts");
    assert.ok(example.text.trim().split("\n").length <= 25, "at most 25 lines");
    assert.deepEqual(
      expected.map(({ step }) => step),
      [10, 20, 30, 40],
    );
    assert.ok(expected[0].loss > 0 && expected[3].loss < expected[0].loss / 5, "it learns");
  });

  for (const [name, text] of [
    ["the adapter, as it stands", example.text],
    ["the plain backend", example.text.replace("openBackend()", 'openBackend({ backend: "cpu" })')],
  ])
    test(`the example prints what the page says on ${name}`, async () => {
      const { folder, remove } = projectFolder({ "mlp.ts": text });
      try {
        const found = lossesOf(await runProgram(folder, "mlp.ts"));
        assert.deepEqual(
          found.map(({ step }) => step),
          expected.map(({ step }) => step),
        );
        // Printed to four places; other adapters add up in another order, and 40 steps carry that on.
        const losses = (lines: typeof found): number[] => lines.map(({ loss }) => loss);
        assertClose(name, losses(found), losses(expected), { absolute: 1.01e-4, relative: 0.01 });
      } finally {
        remove();
      }
    });

  test("the example compiles under strict settings", () => {
    const { folder, remove } = projectFolder({ "mlp.ts": example.text });
    try {
      assert.equal(typeErrors(folder, "mlp.ts"), "");
    } finally {
      remove();
    }
  });

  test("what the page names is there", async () => {
    const engine: Record<string, unknown> = await import("../../engine/index.ts");
    // Calls in code spans, such as `add(a, b)`, and bare names in the table of ops.
    const spans = [...page.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/`([^`\n]+)`/g)].map(([, span]) => span);
    const called = spans.flatMap((span) => [...span.matchAll(/(?<![.\w])(\w+)\(/g)].map(([, name]) => name));
    const table = /\| Ops \| \|\n([\s\S]*?)\n\n/.exec(page)?.[1] ?? "";
    const listed = [...table.matchAll(/`(\w+)`/g)].map(([, name]) => name);
    assert.ok(called.length > 10 && listed.length > 15);
    const missing = [...new Set([...called, ...listed])].filter((name) => !(name in engine) && !(name in globalThis));
    assert.deepEqual(missing, []);
  });
});

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { violations } from "./floor-plan.ts";
import { describe } from "./support.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Breaches of a made-up tree. */
function of(tree: Record<string, string>): string[] {
  const folder = mkdtempSync(join(tmpdir(), "foothold-floors-"));
  try {
    for (const [file, text] of Object.entries(tree)) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), text);
    }
    return violations(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("test/floor-plan", (test) => {
  test("every import of the project keeps to the floor plan", () => assert.deepEqual(violations(root), []));

  test("an import that points down is found, whatever its form", () => {
    for (const text of [
      'import { x } from "../rl/index.ts";',
      'import type { X } from "../rl/index.ts";',
      'export { x } from "../rl/index.ts";',
      'import "../rl/index.ts";',
      'import {\n  type X,\n  y,\n} from "../rl/index.ts";',
      'import * as x from "../rl/index.ts"; const y = 1;',
      'const x = await import("../rl/index.ts");',
      'type X = import("../rl/index.ts").X;',
      'new Worker(new URL("../rl/index.ts", import.meta.url));',
    ])
      assert.equal(of({ "model/a.ts": text, "rl/index.ts": "" }).length, 1, text);
  });
  test("the ground floor knows nothing of the engine around it", () => {
    const text = 'import { Tensor } from "../tensor.ts";';
    assert.match(of({ "engine/host/a.ts": text, "engine/tensor.ts": "" }).join(), /engine\/ is above engine\/host\//);
    const down = 'import { x } from "./host/x.ts";';
    assert.deepEqual(of({ "engine/a.ts": down, "engine/host/x.ts": "" }), [], "the engine may enter any room of it");
  });
  test("an import past a floor's face is found", () => {
    assert.equal(of({ "rl/a.ts": 'import { x } from "../model/b.ts";', "model/b.ts": "" }).length, 1);
    for (const face of ["engine/index.ts", "engine/host/index.ts", "model/index.ts"])
      assert.deepEqual(of({ "rl/a.ts": `import { x } from "../${face}";`, [face]: "" }), []);
  });
  test("a cycle is found, also through types and over several files", () => {
    const breaches = of({
      "engine/a.ts": 'import { b } from "./b.ts";',
      "engine/b.ts": 'import type { C } from "./c.ts";',
      "engine/c.ts": 'import { a } from "./a.ts";',
    });
    assert.equal(breaches.length, 1);
    assert.match(breaches[0], /cycle: engine\/a\.ts → engine\/b\.ts → engine\/c\.ts → engine\/a\.ts/);
  });
  test("product code that imports tests or benchmarks is found; tests may import anything", () => {
    for (const file of ["test/x.ts", "bench/x.ts"])
      assert.equal(of({ "rl/a.ts": `import { x } from "../${file}";`, [file]: "" }).length, 1);
    assert.equal(of({ "test/x.ts": 'import { x } from "../engine/deep/y.ts";', "engine/deep/y.ts": "" }).length, 0);
  });
  test("a comment is no import", () =>
    assert.equal(of({ "engine/a.ts": '// import { x } from "../rl/index.ts";\n' }).length, 0));
  test("a text is no import", () =>
    assert.deepEqual(
      of({ "engine/a.ts": 'export const a = "../rl/index.ts";\nexport const b = ["../rl/b.ts"];\n' }),
      [],
    ));
  test("utils.ts is found", () => assert.equal(of({ "engine/utils.ts": "" }).length, 1));
  test("a test that mirrors nothing is found", () => {
    assert.equal(of({ "engine/ops/a.ts": "", "test/engine/op/a.test.ts": "" }).length, 1);
    assert.deepEqual(of({ "engine/ops/a.ts": "", "test/engine/ops/a.test.ts": "", "test/floor.test.ts": "" }), []);
  });
});

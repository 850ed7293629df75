import * as assert from "uvu/assert";
import { unroll } from "../../../../engine/backends/webgpu/compose.ts";
import { describe, throwsMessage } from "../../../support.ts";

describe("engine/backends/webgpu/compose", (test) => {
  const loop = (index: string, count: string, body: string) =>
    `/* @unroll */ for (var ${index} = 0u; ${index} < ${count}; ${index}++) {${body}}`;

  test("marked loops are written out, with the index a constant in each round", () => {
    assert.is(
      unroll(`a; ${loop("i", "COUNT", " f(i); ")} b;`, { COUNT: 2 }),
      "a; { const i = 0u; f(i); } { const i = 1u; f(i); } b;",
    );
    assert.is(unroll(loop("i", "1u", " f(i); "), {}), "{ const i = 0u; f(i); }");
    assert.is(unroll(`a; ${loop("i", "COUNT", " f(i); ")} b;`, { COUNT: 0 }), "a;  b;");
  });

  test("loops inside and after one another", () => {
    const inner = "{ const j = 0u; f(i, j); } { const j = 1u; f(i, j); }";
    const text = `${loop("i", "2u", `if (x) { ${loop("j", "N", " f(i, j); ")} }`)} ${loop("i", "1u", " g(i); ")}`;
    const expected = `{ const i = 0u;if (x) { ${inner} }} { const i = 1u;if (x) { ${inner} }} { const i = 0u; g(i); }`;
    assert.is(unroll(text, { N: 2 }), expected);
  });

  test("lines keep their numbers, and comments swallow nothing", () => {
    const text = `first\n${loop("i", "3u", "\n  f(i); // why\n  g(i);\n")}\nlast`;
    const lines = unroll(text, {}).split("\n");
    assert.is(lines.length, text.split("\n").length);
    assert.is(lines.at(-1), "last");
    assert.is(unroll(text, {}).match(/g\(i\);/g)?.length, 3);
    assert.ok(lines[4].endsWith("{ const i = 2u; f(i); g(i); }"), lines[4]);
  });

  test("sixteen rounds are written out, seventeen stay a loop", () => {
    assert.is(unroll(loop("i", "16u", " f(i); "), {}).match(/f\(i\)/g)?.length, 16);
    const inside = loop("i", "17u", loop("j", "1u", " f(i, j); "));
    assert.is(unroll(inside, {}), "/* @unroll */ for (var i = 0u; i < 17u; i++) {{ const j = 0u; f(i, j); }}");
  });

  test("refuses a count that is no constant, and a loop that does not end", async () => {
    await throwsMessage(() => unroll(loop("i", "LENGTH", ""), { COUNT: 2 }), "constant LENGTH");
    await throwsMessage(() => unroll("/* @unroll */ for (var i = 0u; i < 2u; i++) { {}", {}), "not closed");
  });
});

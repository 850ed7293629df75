// What is chosen for an adapter from what it says of itself, and what importing the engine loads.
import { execFileSync } from "node:child_process";
import * as assert from "uvu/assert";
import { styleOf } from "../../engine/open.ts";
import { describe } from "../support.ts";

const engine = new URL("../../engine/index.ts", import.meta.url).href;

describe("engine/open", (test) => {
  test("kernels follow the width of a processor's subgroups, not the driver's name", () => {
    assert.is(styleOf("lavapipe", { least: 8, most: 8 }), "lavapipe");
    assert.is(styleOf("swiftshader", { least: 4, most: 4 }), "swiftshader");
    assert.is(styleOf("lavapipe", { least: 4, most: 4 }), "swiftshader", "lavapipe on ARM");
    assert.is(styleOf("software", { least: 4, most: 4 }), "swiftshader", "WARP");
    assert.is(styleOf("lavapipe", { least: 16, most: 16 }), "gpu", "vectors of 512 bits");
    assert.is(styleOf("lavapipe", { least: 4, most: 8 }), "gpu", "a width that may change");
    assert.is(styleOf("swiftshader", null), "gpu", "no subgroups");
    assert.is(styleOf("hardware", { least: 8, most: 8 }), "gpu");
  });

  test("importing the engine loads no Dawn and makes none of its names global", () => {
    const program = `
      const before = new Set(Object.getOwnPropertyNames(globalThis));
      await import(${JSON.stringify(engine)});
      const more = Object.getOwnPropertyNames(globalThis).filter((name) => !before.has(name) && name.startsWith("GPU"));
      const native = process.report.getReport().sharedObjects.filter((file) => /dawn/.test(file));
      console.log(JSON.stringify({ more, native, runtime: process.env.XDG_RUNTIME_DIR ?? null }));`;
    const { XDG_RUNTIME_DIR: _, ...env } = process.env;
    const out = execFileSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8", env });
    assert.equal(JSON.parse(out), { more: [], native: [], runtime: null });
  });
});

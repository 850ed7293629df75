// What importing the engine loads.
import { execFileSync } from "node:child_process";
import * as assert from "uvu/assert";
import { describe } from "../support.ts";

const engine = new URL("../../engine/index.ts", import.meta.url).href;

describe("engine/open", (test) => {
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

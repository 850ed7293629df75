// Report and comparison need no GPU: their doors import nothing that measures, and load no Dawn.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as assert from "uvu/assert";
import { importsOf } from "../../floor-plan.ts";
import { describe } from "../../support.ts";
import { root } from "../tiny-study.ts";

const doors = ["landscape/report.ts", "landscape/compare.ts"];

/** Everything that a file imports, directly or not. */
function reached(from: string): Set<string> {
  const { imports } = importsOf(root);
  const found = new Set([from]);
  for (const file of found) for (const one of imports) if (one.from === file) found.add(one.to);
  return found;
}

describe("landscape/report/report-imports", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-imports-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const hook = join(place, "hook.mjs");
  writeFileSync(
    hook,
    `import { registerHooks } from "node:module";
registerHooks({ resolve(specifier, context, next) {
  const found = next(specifier, context);
  if (specifier === "webgpu") process.stderr.write("LOADED " + specifier + " from " + context.parentURL + "\\n");
  return found;
} });
`,
  );
  /** Lines of the modules that loaded Dawn. */
  const dawnLoads = (...argv: string[]): string[] => {
    const { status, stderr } = spawnSync(process.execPath, ["--import", pathToFileURL(hook).href, ...argv], {
      cwd: root,
      encoding: "utf8",
    });
    assert.is(status, 0, stderr);
    return stderr.split("\n").filter((line) => line.startsWith("LOADED "));
  };

  for (const door of doors)
    test(`${door} imports nothing that measures`, () => {
      const files = [...reached(door)].filter((file) => file.startsWith("landscape/"));
      assert.ok(files.includes("landscape/files/cells.ts"), "the imports are followed");
      assert.equal(
        files.filter((file) => file.startsWith("landscape/measure/") || file === "landscape/study.ts"),
        [],
      );
    });

  test("the hook sees Dawn being loaded", () => {
    const program = `await import(${JSON.stringify(pathToFileURL(join(root, "engine/backends/webgpu/adapter.ts")).href)}).then(({ openAdapter }) => openAdapter({})); process.exit(0);`;
    assert.ok(dawnLoads("--input-type=module", "-e", program).length > 0);
  });

  const engine = pathToFileURL(join(root, "engine/index.ts")).href;
  for (const door of doors)
    test(`${door} loads Dawn only if engine/index.ts itself does`, () => {
      const byEngine = dawnLoads("--input-type=module", "-e", `await import(${JSON.stringify(engine)});`);
      assert.equal(dawnLoads(door, "--help"), byEngine);
    });
});

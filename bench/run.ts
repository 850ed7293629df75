// Runs benchmarks: every file bench/**/*.bench.ts exports `cases`.
//
//   node bench/run.ts [TEXT …] [--json FILE] [--adapter NAME] [--timeMs N]     cases whose file or name contains each TEXT
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SettingsError } from "../engine/errors.ts";
import { backendSettings, defineSettings, integer, runCommand, text, writeAtomic } from "../engine/host/index.ts";
import { openBackend } from "../engine/open.ts";
import { type BenchCase, type BenchResult, measure, resultLine } from "./harness.ts";

const settings = defineSettings({
  json: text({ default: "", meaning: "also write the results to this file" }),
  ...backendSettings,
  timeMs: integer({ default: 1000, min: 1, unit: "ms", meaning: "time for the samples of one case" }),
});

interface NamedCase {
  file: string;
  benchCase: BenchCase;
}

async function findCases(wanted: readonly string[]): Promise<NamedCase[]> {
  const root = fileURLToPath(new URL(".", import.meta.url));
  const files = readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".bench.ts"))
    .sort();
  const found: NamedCase[] = [];
  for (const file of files) {
    const { cases }: { cases: readonly BenchCase[] } = await import(`./${file}`);
    for (const benchCase of cases)
      if (wanted.every((part) => `${file} ${benchCase.name}`.includes(part))) found.push({ file, benchCase });
  }
  return found;
}

await runCommand({
  name: "node bench/run.ts",
  summary: "Checks kernels on shapes that occur, then times them.",
  settings,
  positional: [{ name: "TEXT", meaning: "only cases whose file or name contains it", many: true }],
  async main({ values, positionals, signal }) {
    const found = await findCases(positionals);
    if (found.length === 0) throw new SettingsError(`no benchmark contains ${positionals.join(" and ")}.`);
    const { backend, adapter } = await openBackend({ backend: values.backend, adapter: values.adapter });
    console.log(backend.description);
    const results: (BenchResult & { file: string })[] = [];
    let last = "";
    for (const { file, benchCase } of found) {
      if (signal.aborted) break;
      if (file !== last) console.log(file);
      last = file;
      const result = await measure(backend, benchCase, { timeMs: values.timeMs });
      console.log(`  ${resultLine(result)}`);
      results.push({ file, ...result });
    }
    const command = ["node bench/run.ts", ...process.argv.slice(2)].join(" ");
    const report = { command, adapter: adapter?.name ?? null, description: backend.description, results };
    if (values.json !== "") writeAtomic(values.json, `${JSON.stringify(report, null, 2)}\n`);
    backend.destroy();
  },
});

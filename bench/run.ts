// Runs benchmarks: every file bench/**/*.bench.ts exports `cases`.
//
//   node bench/run.ts [TEXT …] [--all] [--json FILE] [--no-ceilings] [--adapter NAME]
//
// Without a TEXT, all cases that are not heavy run: a few minutes on a software driver. Ceilings are measured once, at
// the start.
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SettingsError } from "../engine/host/errors.ts";
import {
  backendSettings,
  boolean,
  defineSettings,
  expectFilePlace,
  formatBytes,
  formatDuration,
  integer,
  runCommand,
  text,
  writeAtomic,
} from "../engine/host/index.ts";
import { openBackend } from "../engine/open.ts";
import { type Share, shareOf } from "./ceilings.ts";
import { circumstances } from "./circumstances.ts";
import { type BenchCase, type BenchResult, markdownLines, measure, resultLine } from "./harness.ts";
import { measureCeilings } from "./measure-ceilings.ts";

const settings = defineSettings({
  json: text({ default: "", meaning: "also write the results to this file" }),
  markdown: boolean({ default: false, meaning: "print the results as a table in Markdown too, at the end" }),
  all: boolean({ default: false, meaning: "heavy cases too, which otherwise run only when a TEXT names them" }),
  ceilings: boolean({
    default: true,
    meaning: "measure the ceilings first, and print each case's share of its ceiling",
  }),
  ...backendSettings,
  timeMs: integer({ default: 1000, min: 1, unit: "ms", meaning: "time for the samples of one case" }),
});

interface NamedCase {
  file: string;
  benchCase: BenchCase;
}

async function findCases(wanted: readonly string[], withHeavy: boolean): Promise<NamedCase[]> {
  const root = fileURLToPath(new URL(".", import.meta.url));
  const files = readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".bench.ts") && !file.includes("node_modules"))
    .sort();
  const found: NamedCase[] = [];
  for (const file of files) {
    const { cases }: { cases: readonly BenchCase[] } = await import(`./${file}`);
    for (const benchCase of cases) {
      if (benchCase.heavy && !withHeavy) continue;
      if (wanted.every((part) => `${file} ${benchCase.name}`.includes(part))) found.push({ file, benchCase });
    }
  }
  return found;
}

await runCommand({
  name: "node bench/run.ts",
  summary: "Checks kernels at the shapes of real models, then times them.",
  settings,
  positional: [{ name: "TEXT", meaning: "only cases whose file or name contains it", many: true }],
  dryRun: "Print the cases that would run, with their operations and bytes, and stop: no adapter is used.",
  async main({ values, positionals, signal, isDryRun }) {
    const found = await findCases(positionals, values.all || positionals.length > 0);
    if (found.length === 0) throw new SettingsError(`no benchmark contains ${positionals.join(" and ")}.`);
    if (isDryRun) {
      for (const { file, benchCase } of found)
        console.log(
          `${file}  ${benchCase.name}: ${(benchCase.flops / 1e9).toFixed(2)} GFLOP, ${formatBytes(benchCase.bytes)} moved`,
        );
      console.log(
        `${found.length} cases. Time: at least ${formatDuration(found.length * values.timeMs)}, ${values.timeMs} ms per case for samples (--timeMs), ` +
          "and in addition checks, first runs and ceilings. " +
          `Memory: at least ${formatBytes(Math.max(...found.map(({ benchCase }) => benchCase.bytes)))}, the operands of the largest case. ` +
          `Disk: ${values.json === "" ? "nothing is written" : `the results, in ${values.json}`}.`,
      );
      return;
    }
    if (values.json !== "") expectFilePlace(values.json);
    const { backend, adapter } = await openBackend({
      backend: values.backend,
      adapter: values.adapter,
      tune: values.tune,
    });
    console.log(backend.description);
    const ceilings = values.ceilings
      ? await measureCeilings(backend, (result) => console.log(`  ${resultLine(result)}`))
      : null;
    if (ceilings !== null)
      console.log(
        `ceilings: ${ceilings.copyGigabytesPerSecond.toFixed(1)} GB/s (${ceilings.copyCase}), ` +
          `${ceilings.matmulGflopsPerSecond.toFixed(1)} GFLOP/s (${ceilings.matmulCase})`,
      );
    const results: (BenchResult & { file: string } & Partial<Share>)[] = [];
    let last = "";
    for (const { file, benchCase } of found) {
      if (signal.aborted) break;
      if (file !== last) console.log(file);
      last = file;
      const result = await measure(backend, benchCase, { timeMs: values.timeMs });
      console.log(`  ${resultLine(result, ceilings)}`);
      results.push({ file, ...result, ...(ceilings === null ? {} : shareOf(result, ceilings)) });
    }
    if (values.markdown) for (const line of markdownLines(results, ceilings)) console.log(line);
    const isWhole = results.length === found.length;
    if (!isWhole) console.log(`stopped after ${results.length} of ${found.length} cases`);
    const about = { ...circumstances("bench/run.ts", adapter), description: backend.description };
    const report = { ...about, isWhole, ceilings, results };
    if (values.json !== "") writeAtomic(values.json, `${JSON.stringify(report, null, 2)}\n`);
    backend.destroy();
  },
});

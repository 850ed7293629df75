// Joins shards of a study, measured on several machines, to one run folder:
//
//   node landscape/merge.ts runs/whole runs/part-0 runs/part-1
import { boolean, defineSettings, runCommand, SettingsError } from "../engine/host/index.ts";
import { reportPath } from "./files/layout.ts";
import { mergeShards } from "./files/merge-shards.ts";
import { redraw } from "./report/report.ts";

await runCommand({
  name: "node landscape/merge.ts",
  summary: "Joins the run folders of shards (--shard i/n) to one, with the bytes that one machine would have written.",
  settings: defineSettings({
    "allow-mixed": boolean({
      default: false,
      meaning: "take shards of different drivers or versions of the program; every figure is marked",
    }),
  }),
  positional: [
    { name: "OUT", meaning: "the new run folder", required: true },
    { name: "SHARD", meaning: "the folders of the shards", required: true, many: true },
  ],
  examples: [["node landscape/merge.ts runs/whole runs/part-0 runs/part-1", "writes runs/whole with its report"]],
  main: async ({ values, positionals: [out, ...shards], progress, signal }) => {
    if (new Set(shards).size < shards.length) throw new SettingsError("SHARD: the same folder is named twice.");
    const say = (line: string): void => progress.line(line);
    await mergeShards(out, shards, { allowMixed: values["allow-mixed"], say });
    process.stdout.write(await redraw(out, say, signal));
    progress.line(`Report: ${reportPath(out)}`);
  },
});

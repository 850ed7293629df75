// A worker: measures grid points, rays and more that another command hands out over a queue.
//
//   node landscape/sweep.ts tiny --checkpoints 'out/checkpoint-*' --queue redis://head:6379     hands out, and writes the run folder
//   node landscape/work.ts --queue redis://head:6379                                           measures; as many as there are machines
import { hostname } from "node:os";
import {
  backendSettings,
  defineSettings,
  integer,
  readTomlFile,
  resolveSettings,
  runCommand,
  SettingsError,
  text,
  texts,
} from "../engine/host/index.ts";
import { adapterLine, openBackend } from "../engine/index.ts";
import { batchSettings, filesOf, loadModuleOf } from "../rl/index.ts";
import { addressProblems } from "./queue/address.ts";
import { ownPlan } from "./queue/plans.ts";
import { openServer } from "./queue/server.ts";
import { work } from "./queue/worker.ts";
import { landscapeSettings, type StudySettings, studySettings } from "./settings.ts";

const settings = defineSettings(
  {
    queue: text({
      default: "",
      meaning:
        "the Valkey or Redis server: redis://HOST:PORT, or rediss://USER:PASSWORD@HOST:PORT with TLS; FOOTHOLD_QUEUE_PASSWORD keeps the password off the command line",
    }),
    run: text({
      default: "",
      meaning: "a run folder with the study's checkpoints, or one model's folder; empty: the path that the study names",
    }),
    shared: texts({
      default: ["."],
      meaning: "folders below which paths that the study names may be read; several with commas between",
    }),
    name: text({ default: "", meaning: "shown by the command that hands out; empty: this machine's name" }),
    "lock-seconds": integer({
      default: 60,
      min: 2,
      unit: "seconds",
      meaning:
        "grid points of a worker that died or froze for so long go to another one; the lock is renewed four times as often while they are measured, however long that takes",
    }),
    "idle-seconds": integer({
      default: 600,
      min: 1,
      unit: "seconds",
      meaning: "the worker ends after so long without work",
    }),
    "points-at-once": integer({
      default: landscapeSettings.pointsAtOnce.default,
      min: 1,
      unit: "points",
      meaning: "at most so many grid points have their weights in memory at a time; never more than the study's",
    }),
    ...backendSettings,
    batch: batchSettings,
  },
  ({ queue, name }) => [
    ...(queue === "" ? ["queue: expected the server's address: --queue redis://HOST:PORT"] : addressProblems(queue)),
    ...(/^[\w.@:-]{0,100}$/.test(name) ? [] : ["name: expected at most 100 letters, digits and . _ - : @"]),
  ],
);

await runCommand({
  name: "node landscape/work.ts",
  summary:
    "Measures maps, rays, pairs and whatever else landscape/sweep.ts or landscape/run.ts hand out with --queue. It writes nothing to disk, and any number " +
    "of workers gives the bytes of one machine.",
  settings,
  positional: [
    {
      name: "STUDY",
      many: true,
      meaning:
        "the study's settings files; needed only if its task or directions name files, programs or texts of yours",
    },
  ],
  examples: [
    [
      "node landscape/work.ts --queue redis://head:6379",
      "checkpoints at the path that the study names, below this folder",
    ],
    ["node landscape/work.ts --queue redis://head:6379 --shared /data,/home/me", "the same, below these folders"],
    [
      "node landscape/work.ts --queue rediss://me@head:6380 --run runs/copy",
      "TLS and password; checkpoints of this folder",
    ],
    ["node landscape/work.ts my-study.toml --queue redis://head:6379", "a task with a module or scorer of your own"],
  ],
  main: async ({ values, positionals, progress, signal }) => {
    const own = await ownStudy(positionals);
    const say = (line: string): void => progress.line(line);
    const server = await openServer(values.queue, say);
    try {
      const opened = await openBackend({ backend: values.backend, adapter: values.adapter, tune: values.tune });
      const { backend } = opened;
      try {
        say(adapterLine(opened));
        const name =
          values.name === ""
            ? hostname()
                .replace(/[^\w.-]/g, "-")
                .slice(0, 100)
            : values.name;
        say(`Worker ${name}: waits for grid points at ${server.shown}.`);
        const { run, shared, batch } = values;
        const pointsAtOnce = values["points-at-once"];
        const machine = { backend, own, run, shared, batch, pointsAtOnce, plan: ownPlan(backend), progress, signal };
        const [lockMs, idleMs] = [1000 * values["lock-seconds"], 1000 * values["idle-seconds"]];
        const working = work({ server, machine, name, lockMs, idleMs });
        const cells = await server.orStopped(working, signal);
        process.stdout.write(`${cells} cells measured.\n`);
      } finally {
        backend.destroy();
      }
    } finally {
      await server.close();
    }
  },
});

/** The settings of the worker's own files; null if it was given none. Loads the environment's module that they name. */
async function ownStudy(named: readonly string[]): Promise<StudySettings | null> {
  if (named.length === 0) return null;
  const sources = filesOf(studySettings, named).map((path) => readTomlFile(studySettings, path));
  await loadModuleOf(sources);
  const study = resolveSettings(studySettings, sources);
  if (study.queue !== "") throw new SettingsError("queue: a flag, and not for files");
  return study;
}

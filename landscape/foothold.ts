#!/usr/bin/env node
// `foothold COMMAND …`: every command of the project under one name, for users who installed the package.
//
//   foothold study tiny            is   node landscape/run.ts tiny
//   foothold generate --model DIR  is   node model/generate.ts --model DIR
//
// A command's file runs if it is the program that was started. This file therefore names the command's file as the
// program, and then loads it.
import { extname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { nearestNames, projectVersion, renameCommands } from "../engine/host/index.ts";

interface Door {
  /** Path below the project's root, without extension: .ts in a clone, .js in the package. */
  file: string;
  summary: string;
}

const doors: Readonly<Record<string, Door>> = {
  train: { file: "rl/train", summary: "GRPO alone: checkpoints, metrics and rollouts in a run folder" },
  show: { file: "rl/show", summary: "conversations of a training step, with the tokens that moved most" },
  evaluate: { file: "rl/evaluate", summary: "a model on an environment: mean reward, pass@k, lengths" },
  study: { file: "landscape/run", summary: "train, measure the landscapes, write the report" },
  sweep: { file: "landscape/sweep", summary: "maps around checkpoints of any training" },
  work: { file: "landscape/work", summary: "measure grid points that a sweep or study hands out over a queue" },
  merge: { file: "landscape/merge", summary: "join shards that several machines measured" },
  verify: { file: "landscape/verify", summary: "recompute grid points of a run and compare" },
  report: { file: "landscape/report", summary: "draw the figures and the report of a run again, from its files" },
  compare: { file: "landscape/compare", summary: "several runs side by side" },
  maps: { file: "landscape/export", summary: "write the measured maps for NumPy, ParaView or any program" },
  generate: { file: "model/generate", summary: "text from a model" },
  score: { file: "model/score", summary: "log-probabilities and entropies of given sequences" },
  export: { file: "model/export", summary: "write a model again, in another dtype or in shards" },
  initialise: { file: "model/initialise", summary: "a random model of any shape" },
  "warm-start": { file: "rl/warm-start", summary: "supervised training on worked dialogues" },
};

const help = [
  "Does a policy trained with verifiable rewards stand on solid ground? GRPO, and the landscape around its checkpoints.",
  "",
  "Usage: foothold COMMAND …",
  "",
  ...Object.entries(doors).map(([name, { summary }]) => `  ${name.padEnd(12)}${summary}`),
  "",
  "foothold COMMAND --help tells more.   To begin with: foothold study tiny",
].join("\n");

const [name = "--help", ...rest] = process.argv.slice(2);
const door = Object.hasOwn(doors, name) ? doors[name] : undefined;
if (door !== undefined) {
  const ending = extname(fileURLToPath(import.meta.url));
  const path = fileURLToPath(new URL(`../${door.file}${ending}`, import.meta.url));
  process.argv = [process.argv[0], path, ...rest];
  renameCommands(
    new Map(Object.entries(doors).map(([command, { file }]) => [`node ${file}.ts`, `foothold ${command}`])),
  );
  await import(pathToFileURL(path).href);
} else if (name === "--help" || name === "-h" || name === "help") console.log(help);
else if (name === "--version") console.log(`foothold ${projectVersion()}`);
else {
  const [nearest] = nearestNames(name, Object.keys(doors));
  const hint = nearest === undefined ? "" : ` Did you mean ${nearest}?`;
  console.error(`foothold: there is no command "${name}".${hint} foothold --help lists them.`);
  process.exitCode = 2;
}

// The cost of a grid point: the rollouts of points in slots of perturbed weights, beside an unperturbed evaluation of the same
// conversations, and beside the naive way: write a perturbed model folder, load it, evaluate it.
//
//   node bench/landscape/point-cost.ts [--model DIR] [--points 1,4,16] [--rows N] [--prompt N] [--answer N] [--adapter NAME]
//
// A time is per point, the weights' placing included. All ways run in one process, in alternation; the first round is not timed,
// since it compiles. Conversations have random prompts of one length and answers of full length, at temperature 1. Drafts are the
// answers of the unperturbed model, as for the first points of a sweep. Points are at `--radius` from the model, in units of each
// tensor's norm.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  backendSettings,
  defineSettings,
  integer,
  integers,
  number,
  runCommand,
  text,
  writeAtomic,
} from "../../engine/host/index.ts";
import { type DirectionStep, SlotWeights } from "../../engine/index.ts";
import { openBackend } from "../../engine/open.ts";
import { generate, loadForInference, loadModel, type Model, openConfig, writeCheckpoint } from "../../model/index.ts";
import { type Answers, proposal } from "../../rl/index.ts";
import { circumstances } from "../circumstances.ts";
import { median } from "../median.ts";

const settings = defineSettings({
  model: text({ default: "rl/presets/tiny/checkpoint", meaning: "the model's folder" }),
  points: integers({
    default: [1, 4, 16],
    min: 1,
    unit: "points",
    meaning: "grid points at once, one measurement each",
  }),
  rows: integer({ default: 64, min: 1, unit: "conversations", meaning: "conversations of an evaluation" }),
  prompt: integer({ default: 40, min: 1, unit: "tokens", meaning: "length of a prompt" }),
  answer: integer({ default: 24, min: 1, unit: "tokens", meaning: "length of an answer" }),
  radius: number({
    default: 0.02,
    min: 0,
    meaning: "distance of the points from the model, in units of each tensor's norm",
  }),
  repeats: integer({ default: 3, min: 1, unit: "runs", meaning: "timed runs of each way, in alternation" }),
  ...backendSettings,
  json: text({ default: "", meaning: "also write the results to this file" }),
});

interface Time {
  readonly wallMs: number;
  readonly processorMs: number;
}

const medianOf = (times: readonly Time[]): Time => ({
  wallMs: median(times.map(({ wallMs }) => wallMs)),
  processorMs: median(times.map(({ processorMs }) => processorMs)),
});

await runCommand({
  name: "node bench/landscape/point-cost.ts",
  summary: "Times grid points beside an unperturbed evaluation, and beside perturbed model folders.",
  settings,
  async main({ values }) {
    const { backend, adapter } = await openBackend(values);
    console.log(backend.description);
    const { config, weights } = await loadModel(backend, values.model);
    const { configJson } = await openConfig(values.model);
    const place = mkdtempSync(join(tmpdir(), "foothold-point-cost-"));
    const theta = await weights.read();
    const plain = { backend, config, weights };
    /** What each conversation of the unperturbed model said. */
    const said: Answers[] = [];
    const counts = { sampled: 0, drafted: 0 };
    const evaluate = (model: Model, points: number, drafts: boolean, keep = false): Promise<void> =>
      generate(
        model,
        Array.from({ length: points * values.rows }, (_, k) => {
          const row = k % values.rows;
          return {
            policy: Math.floor(k / values.rows),
            prompt: Array.from({ length: values.prompt }, (__, t) => (row * 31 + t * 17 + 5) % config.vocabSize),
            noise: { rollout: row, prompt: row },
            expectedTokens: values.answer,
            answered: ({ ids }: { ids: readonly number[] }) => {
              if (keep) said[row] = [[...ids]];
              return null;
            },
            ...(drafts && {
              draft: (_turn: number, answer: readonly number[]) => proposal([said[row]], [], answer),
            }),
          };
        }),
        {
          ...{ maxNewTokens: values.answer, temperature: 1, noiseKey: [1, 2], stopIds: [] },
          ...{ maxRows: 512, maxTokens: 8192 },
          onPass: ({ sampled, drafted }) => {
            counts.sampled += sampled;
            counts.drafted += drafted;
          },
        },
      );
    const timed = async (body: () => Promise<unknown>): Promise<Time> => {
      await backend.idle();
      const [wall, processor] = [performance.now(), process.cpuUsage()];
      await body();
      await backend.idle();
      const { user, system } = process.cpuUsage(processor);
      return { wallMs: performance.now() - wall, processorMs: (user + system) / 1000 };
    };
    const norms = new Map(
      [...theta].map(([name, of]) => [name, Math.sqrt(of.reduce((sum, w) => sum + w * w, 0) / of.length)]),
    );
    const stepsOf =
      (point: number) =>
      (name: string): readonly DirectionStep[] => [
        { kind: "gaussian", key: [point + 1, 0], coefficient: values.radius * (norms.get(name) ?? 0) },
      ];
    /** Milliseconds of each part of the naive way, one entry per run. A script in another language draws its noise faster. */
    const parts = new Map<string, number[]>();
    const part = async <T>(name: string, body: () => T | Promise<T>): Promise<T> => {
      const start = performance.now();
      const result = await body();
      await backend.idle();
      parts.set(name, [...(parts.get(name) ?? []), performance.now() - start]);
      return result;
    };
    const naive = async (): Promise<void> => {
      const folder = join(place, "perturbed");
      const tensors = await part("noise", () =>
        [...theta].map(([name, of]) => {
          const scale = values.radius * (norms.get(name) ?? 0);
          return { name, data: of.map((w) => w + scale * gaussian()) };
        }),
      );
      await part("writing", () => writeCheckpoint(folder, { configJson, tensors, filesFrom: values.model }));
      const model = await part("loading", () => loadForInference(backend, folder, "f32"));
      await part("evaluation", () => evaluate(model, 1, false));
      model.weights.free();
      rmSync(folder, { recursive: true });
    };
    const slotsOf = new Map(values.points.map((points) => [points, new SlotWeights(weights, points)]));
    const ways: { name: string; points: number; run: () => Promise<unknown> }[] = [
      { name: "unperturbed", points: 1, run: () => evaluate(plain, 1, false) },
      ...[...slotsOf].flatMap(([points, slots]) =>
        [false, true].map((drafts) => ({
          name: `${points} at once${drafts ? ", drafts" : ""}`,
          points,
          run: async () => {
            slots.placeAlong(Array.from({ length: points }, (_, point) => stepsOf(point)));
            await evaluate({ backend, config, weights: slots }, points, drafts);
          },
        })),
      ),
      ...[...slotsOf].map(([points, slots]) => ({
        name: `placing ${points}`,
        points,
        run: async () => slots.placeAlong(Array.from({ length: points }, (_, point) => stepsOf(point))),
      })),
      { name: "a perturbed folder", points: 1, run: naive },
    ];
    const times = new Map(ways.map(({ name }) => [name, [] as Time[]]));
    /** Share of the answers' tokens that were as a draft had them. */
    const accepted = new Map<string, number>();
    try {
      await evaluate(plain, 1, false, true);
      for (let repeat = 0; repeat <= values.repeats; repeat++)
        for (const { name, points, run } of ways) {
          counts.sampled = counts.drafted = 0;
          const { wallMs, processorMs } = await timed(run);
          accepted.set(name, counts.sampled === 0 ? 0 : counts.drafted / counts.sampled);
          if (repeat > 0) times.get(name)?.push({ wallMs: wallMs / points, processorMs: processorMs / points });
        }
    } finally {
      rmSync(place, { recursive: true, force: true });
      for (const slots of slotsOf.values()) slots.free();
      weights.free();
    }
    const results = [...times].map(([name, found]) => ({
      name,
      ...medianOf(found),
      accepted: accepted.get(name) ?? 0,
    }));
    const base = results[0];
    for (const { name, wallMs, processorMs, accepted } of results)
      console.log(
        `${name.padEnd(22)} ${wallMs.toFixed(1).padStart(9)} ms, processor ${processorMs.toFixed(1).padStart(9)} ms per point; ` +
          `${(wallMs / base.wallMs).toFixed(2)} and ${(processorMs / base.processorMs).toFixed(2)} times the unperturbed evaluation` +
          (accepted > 0 ? `; ${(100 * accepted).toFixed(0)}% of tokens as drafted` : ""),
      );
    // The first run compiles.
    const naiveParts = Object.fromEntries([...parts].map(([name, found]) => [name, median(found.slice(1))]));
    console.log(
      `a perturbed folder, wall time: ${Object.entries(naiveParts)
        .map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`)
        .join(", ")}`,
    );
    const { rows, prompt, answer, radius, model } = values;
    const report = {
      ...circumstances("bench/landscape/point-cost.ts", adapter),
      ...{ description: backend.description, model, rows, prompt, answer, radius, results, naiveParts },
    };
    if (values.json !== "") writeAtomic(values.json, `${JSON.stringify(report, null, 2)}\n`);
    backend.destroy();
  },
});

/** Box and Muller. The naive way draws its own numbers, as a script would. */
function gaussian(): number {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// Decode steps of several grid points at once: one dispatch for all points (grouped) beside one dispatch per point (looped) and,
// if asked for, beside weights that are made a tile at a time (in-tile).
//
//   node bench/model/points-at-once.ts [--points 1,4,16] [--rows 1,2] [--layers N] [--width N] [--steps N] [--adapter NAME]
//
// All ways run in one process, in alternation, and give the same bits. Weights are random slots around a random model of the
// tiny model's kind. A step's host time is its time less the time that the backend counts as waiting (host-time.ts). With
// `--adapter null` the device computes nothing, so nearly all of the time is the host's.
import {
  backendSettings,
  defineSettings,
  integer,
  integers,
  runCommand,
  text,
  texts,
  writeAtomic,
} from "../../engine/host/index.ts";
import { type DirectionStep, MovedWeights, type Parameter, SlotWeights, type Weights } from "../../engine/index.ts";
import { openBackend } from "../../engine/open.ts";
import { generate, type LanguageModel, makeWeights, qwen2Model } from "../../model/index.ts";
import { circumstances } from "../circumstances.ts";
import { median } from "../median.ts";
import { readOnes } from "./null-adapter.ts";

const allWays = ["grouped", "looped", "in-tile"] as const;
type Way = (typeof allWays)[number];
const isWay = (text: string): text is Way => allWays.some((way) => way === text);

const settings = defineSettings(
  {
    points: integers({
      default: [1, 4, 16],
      min: 1,
      unit: "points",
      meaning: "grid points in the batch, one run each",
    }),
    ways: texts({ default: ["grouped", "looped"], meaning: "some of grouped, looped and in-tile" }),
    rows: integers({ default: [1, 2], min: 1, unit: "rows", meaning: "conversations of each point" }),
    layers: integer({ default: 2, min: 1, unit: "layers", meaning: "layers of the model" }),
    width: integer({ default: 64, min: 16, unit: "elements", meaning: "width of the model, a multiple of 16" }),
    vocabulary: integer({ default: 371, min: 2, unit: "tokens", meaning: "size of the vocabulary" }),
    steps: integer({ default: 60, min: 1, unit: "tokens", meaning: "decode steps of one run" }),
    repeats: integer({ default: 5, min: 1, unit: "runs", meaning: "runs of each way, in alternation" }),
    ...backendSettings,
    json: text({ default: "", meaning: "also write the results to this file" }),
  },
  ({ width, ways }) => [
    ...(width % 16 === 0 ? [] : [`width: expected a multiple of 16, got ${width} (--width)`]),
    ...ways
      .filter((way) => !isWay(way))
      .map((way) => `ways: expected some of ${allWays.join(", ")}, got "${way}" (--ways)`),
  ],
);

const modelOf = (width: number, layers: number, vocabSize: number): LanguageModel =>
  qwen2Model({
    ...{ rmsNormEps: 1e-5, tieWordEmbeddings: true, maxPositionEmbeddings: 8192, eosTokenIds: [] },
    ...{ vocabSize, hiddenSize: width, intermediateSize: 3 * width, numHiddenLayers: layers },
    ...{ numAttentionHeads: width / 16, numKeyValueHeads: Math.max(1, width / 32), headDim: 16, ropeTheta: 1e4 },
  });

/** The same slots without their stacks: ops then run once for each run of rows. */
function looped(weights: SlotWeights): Weights {
  const parameters = new Map<string, Parameter>();
  return {
    ...{ dtype: weights.dtype, isPerturbed: true, operands: weights.operands },
    get(name) {
      const known = parameters.get(name);
      if (known !== undefined) return known;
      const parameter = weights.get(name);
      if (parameter.kind !== "slots") return parameter;
      const { shape, slots } = parameter;
      const made = { kind: "slots", shape, slots } as const;
      parameters.set(name, made);
      return made;
    },
  };
}

/** Per decode step, µs. */
interface StepTime {
  step: number;
  host: number;
  processor: number;
  dispatches: number;
}

interface Measured {
  points: number;
  rowsOfPoint: number;
  times: Partial<Record<Way, StepTime>>;
}

await runCommand({
  name: "node bench/model/points-at-once.ts",
  summary: "Times decode steps of several grid points, all points in one dispatch and one dispatch per point.",
  settings,
  async main({ values }) {
    const { backend, adapter } = await openBackend(values);
    console.log(backend.description);
    if (adapter?.label === "null") readOnes(backend);
    const { layers, width, vocabulary, repeats } = values;
    const config = modelOf(width, layers, vocabulary);
    const arena = makeWeights(backend, config);
    arena.refreshCopies();
    const results: Measured[] = [];
    for (const points of values.points) {
      const slots = new SlotWeights(arena, points);
      const steps = Array.from({ length: points }, (_, i) => (): DirectionStep[] => [
        { kind: "gaussian", key: [i + 1, 0], coefficient: 0.05 },
        { kind: "gaussian", key: [i + 1, 1], coefficient: 0.05 },
      ]);
      slots.placeAlong(steps);
      const moved = new MovedWeights(arena);
      moved.placeAlong(steps);
      const weights: Record<Way, Weights> = { grouped: slots, looped: looped(slots), "in-tile": moved };
      const ways = values.ways.filter(isWay);
      for (const rowsOfPoint of values.rows) {
        const times = new Map<Way, StepTime[]>(ways.map((way) => [way, []]));
        // The first run of each way is not timed: it compiles.
        for (let repeat = 0; repeat <= repeats; repeat++)
          for (const [way, own] of times) {
            const time = await timedSteps(
              { backend, config, weights: weights[way] },
              points,
              rowsOfPoint,
              values.steps,
            );
            if (repeat > 0) own.push(time);
          }
        const of = (own: readonly StepTime[]): StepTime => ({
          step: median(own.map(({ step }) => step)),
          host: median(own.map(({ host }) => host)),
          processor: median(own.map(({ processor }) => processor)),
          dispatches: own[0].dispatches,
        });
        const found = Object.fromEntries([...times].map(([way, own]) => [way, of(own)]));
        results.push({ points, rowsOfPoint, times: found });
        const line = ([way, { step, host, processor, dispatches }]: [string, StepTime]): string =>
          `${way} ${step.toFixed(0)} µs (host ${host.toFixed(0)}, processor ${processor.toFixed(0)}), ${dispatches} dispatches`;
        console.log(`${points} × ${rowsOfPoint} rows, per step: ${Object.entries(found).map(line).join("; ")}`);
      }
      slots.free();
      moved.free();
    }
    const report = {
      ...circumstances("bench/model/points-at-once.ts", adapter),
      description: backend.description,
      results,
    };
    if (values.json !== "") writeAtomic(values.json, `${JSON.stringify(report, null, 2)}\n`);
    backend.destroy();
  },
});

/** The mean decode step of `points` runs of rows. */
async function timedSteps(
  model: Parameters<typeof generate>[0],
  points: number,
  rowsOfPoint: number,
  steps: number,
): Promise<StepTime> {
  const { backend } = model;
  const now = () => ({ now: performance.now(), processor: process.cpuUsage(), ...backend.statistics() });
  let passes = 0;
  let first = now();
  let last = first;
  const untimed = 4;
  const dialogues = Array.from({ length: points * rowsOfPoint }, (_, row) => ({
    ...{ policy: Math.floor(row / rowsOfPoint), prompt: [1, 2, 3, 4], noise: { rollout: row, prompt: 0 } },
    ...{ expectedTokens: untimed + steps, answered: () => null },
  }));
  await generate(model, dialogues, {
    ...{ maxNewTokens: untimed + steps, temperature: 1, noiseKey: [1, 2], stopIds: [], maxRows: dialogues.length },
    ...{ maxTokens: 4096, stepsPerRead: 1 },
    onPass: () => {
      passes++;
      if (passes === untimed) first = now();
      last = now();
    },
  });
  const count = passes - untimed;
  const processor = (end: typeof first): number => end.processor.user + end.processor.system;
  return {
    step: ((last.now - first.now) * 1000) / count,
    host: ((last.now - first.now - (last.waitMs - first.waitMs)) * 1000) / count,
    processor: (processor(last) - processor(first)) / count,
    dispatches: (last.dispatches - first.dispatches) / count,
  };
}

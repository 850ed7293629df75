// The host's time per decode step: what the program needs to build a step and to hand it to the device, without the wait
// for the device. On a GPU it limits the decode rate of small models and small batches.
//
//   node bench/model/host-time.ts [--shapes tiny,smollm2-135m] [--rows N] [--steps N] [--adapter NAME]
//
// A step's host time is the time between two passes of `generate` less the time that the backend counts as waiting. All
// weights are zero: the host does the same for other values. With `--adapter null` Dawn checks all work and the device
// computes nothing, so there is next to no wait, and large shapes take no time.
import { backendSettings, defineSettings, integer, runCommand, text, writeAtomic } from "../../engine/host/index.ts";
import { openBackend } from "../../engine/open.ts";
import { generate, makeWeights, type Qwen2Model, qwen2Model } from "../../model/index.ts";
import { circumstances } from "../circumstances.ts";
import { readOnes } from "./null-adapter.ts";

const common = { rmsNormEps: 1e-5, tieWordEmbeddings: true, maxPositionEmbeddings: 8192, eosTokenIds: [] } as const;
const shapes: Readonly<Record<string, Qwen2Model>> = {
  tiny: qwen2Model({
    ...{ ...common, vocabSize: 371, hiddenSize: 64, intermediateSize: 192, numHiddenLayers: 2 },
    ...{ numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 16, ropeTheta: 1e4 },
  }),
  "smollm2-135m": qwen2Model({
    ...{ ...common, vocabSize: 49152, hiddenSize: 576, intermediateSize: 1536, numHiddenLayers: 30 },
    ...{ numAttentionHeads: 9, numKeyValueHeads: 3, headDim: 64, ropeTheta: 1e5 },
  }),
};

const settings = defineSettings(
  {
    shapes: text({ default: Object.keys(shapes).join(","), meaning: "models to measure, separated by commas" }),
    rows: integer({ default: 16, min: 1, unit: "rows", meaning: "dialogues in the batch" }),
    steps: integer({ default: 200, min: 1, unit: "tokens", meaning: "decode steps that are timed" }),
    ...backendSettings,
    json: text({ default: "", meaning: "also write the results to this file" }),
  },
  ({ shapes: wanted }) =>
    wanted
      .split(",")
      .filter((name) => !(name in shapes))
      .map((name) => `shapes: expected some of ${Object.keys(shapes).join(", ")}, got "${name}" (--shapes)`),
);

/** Steps before the first timed one: pipelines, bind groups and the compiler of JavaScript are ready after them. */
const untimed = 50;

interface HostTime {
  shape: string;
  rows: number;
  steps: number;
  /** Microseconds per step: the median, and a tenth and nine tenths of the way through the sorted steps. */
  hostUs: number;
  hostUsTenth: number;
  hostUsNineTenths: number;
  /** Microseconds per step, the wait included. */
  stepUs: number;
  dispatches: number;
  submissions: number;
}

const at = (sorted: readonly number[], share: number): number => sorted[Math.floor(share * (sorted.length - 1))];
const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);

await runCommand({
  name: "node bench/model/host-time.ts",
  summary: "Times what the host does per decode step, without the wait for the device.",
  settings,
  async main({ values }) {
    const { backend, adapter } = await openBackend(values);
    console.log(backend.description);
    if (adapter?.label === "null") readOnes(backend);
    const results: HostTime[] = [];
    for (const shape of values.shapes.split(",")) {
      const config = shapes[shape];
      const weights = makeWeights(backend, config);
      weights.refreshCopies();
      await backend.idle();
      const host: number[] = [];
      const whole: number[] = [];
      let last = { now: performance.now(), ...backend.statistics() };
      let first = last;
      const { rows, steps } = values;
      const dialogues = Array.from({ length: rows }, (_, rollout) => ({
        ...{ policy: 0, prompt: [1, 2, 3, 4], noise: { rollout, prompt: 0 }, expectedTokens: untimed + steps + 1 },
        answered: () => null,
      }));
      await generate({ backend, config, weights }, dialogues, {
        ...{ maxNewTokens: untimed + steps + 1, temperature: 1, noiseKey: [1, 2], stopIds: [], maxRows: rows },
        maxTokens: 4096,
        onPass: () => {
          const now = { now: performance.now(), ...backend.statistics() };
          whole.push((now.now - last.now) * 1000);
          host.push((now.now - last.now - (now.waitMs - last.waitMs)) * 1000);
          if (host.length === untimed + 1) first = now;
          last = now;
        },
      });
      weights.free();
      const sorted = ascending(host.slice(untimed + 1));
      results.push({
        ...{ shape, rows, steps, stepUs: at(ascending(whole.slice(untimed + 1)), 0.5) },
        ...{ hostUs: at(sorted, 0.5), hostUsTenth: at(sorted, 0.1), hostUsNineTenths: at(sorted, 0.9) },
        dispatches: (last.dispatches - first.dispatches) / steps,
        submissions: (last.submissions - first.submissions) / steps,
      });
      const { hostUs, hostUsTenth, hostUsNineTenths, stepUs, dispatches, submissions } = results[results.length - 1];
      console.log(
        `${shape}, ${rows} rows: ${hostUs.toFixed(0)} µs of the host per step (${hostUsTenth.toFixed(0)} to ` +
          `${hostUsNineTenths.toFixed(0)}), of ${stepUs.toFixed(0)} µs; ${dispatches} dispatches (` +
          `${(hostUs / dispatches).toFixed(1)} µs each) in ${submissions} submissions`,
      );
    }
    const report = { ...circumstances("bench/model/host-time.ts", adapter), description: backend.description, results };
    if (values.json !== "") writeAtomic(values.json, `${JSON.stringify(report, null, 2)}\n`);
    backend.destroy();
  },
});

// A small network that is trained for many steps on batches of changing size, while what the device holds is counted: after
// a warm-up nothing may grow, neither buffers nor what is cached.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  adamwStep,
  type Backend,
  fromArray,
  head,
  linear,
  ParameterArena,
  record,
  rmsNorm,
  type Shape,
  scope,
  scopeAsync,
  swiglu,
  type Tensor,
  weightedSum,
} from "../../engine/index.ts";
import { normals } from "./normals.ts";

const [inputs, hidden, classes] = [24, 40, 16];
/** Rows of the batches, in turn: of several size classes each, none a power of two. */
const batchRows = [37, 5, 120, 1, 70, 11, 203];

const shapes: readonly [string, Shape][] = [
  ["gate", [hidden, inputs]],
  ["gate bias", [hidden]],
  ["up", [hidden, inputs]],
  ["norm", [hidden]],
  ["head", [classes, hidden]],
];

/** What must stay as it is. */
export interface Held {
  liveBuffers: number;
  liveBytes: number;
  pooledBytes: number;
  pipelines: number;
  bindGroups: number;
}

export interface TrainingWatch {
  /** The mean loss of each whole turn of batches. */
  losses: number[];
  /** After each turn. */
  held: Held[];
  /** Reads and waits in all. */
  reads: number;
  /** Resident memory of the process without the collector's own heap, bytes, after every hundredth turn and a collection. */
  resident: number[];
}

/** Steps of AdamW on −mean log p(class), whole turns of batches, at least `steps` of them. */
export async function trainAndWatch(backend: Backend, steps: number): Promise<TrainingWatch> {
  const arena = new ParameterArena(
    backend,
    new Map(shapes.map(([name, shape]) => [name, { shape, forwardCopy: shape.length === 2 }])),
    { trainable: true },
  );
  shapes.forEach(([name, shape], i) => {
    const size = arena.value(name).size;
    arena.load(name, shape.length === 1 ? new Float32Array(size).fill(1) : normals(i + 1, size, 0.3));
  });
  arena.valuesChanged();
  const watch: TrainingWatch = { losses: [], held: [], reads: 0, resident: [] };
  const read = backend.read;
  backend.read = (ranges) => {
    watch.reads++;
    return read.call(backend, ranges);
  };
  try {
    for (let step = 1; step <= steps; ) {
      let sum = 0;
      for (const rows of batchRows) sum += await trainStep(arena, rows, step++);
      watch.losses.push(sum / batchRows.length);
      await backend.idle();
      const { liveBuffers, liveBytes, pooledBytes, pipelines, bindGroups = 0 } = backend.statistics();
      watch.held.push({ liveBuffers, liveBytes, pooledBytes, pipelines, bindGroups });
      if (watch.held.length % 100 === 0) {
        collectGarbage();
        await new Promise((resolve) => setTimeout(resolve, 50)); // what was collected is given back in turns of their own
        const { rss, heapTotal } = process.memoryUsage();
        watch.resident.push(rss - heapTotal);
      }
    }
  } finally {
    backend.read = read;
    arena.free();
  }
  return watch;
}

/** V8's collector, which is hidden unless asked for. */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect !== "function") throw new Error("no collector to be had");
  collect();
}

async function trainStep(arena: ParameterArena, rows: number, step: number): Promise<number> {
  const { backend } = arena;
  return scopeAsync(async () => {
    arena.clearGradients();
    const values = normals(rows, rows * inputs);
    // The class of a row is where its first entries are largest: something that can be learnt.
    const largest = Uint32Array.from({ length: rows }, (_, row) => {
      const own = values.subarray(row * inputs, row * inputs + classes);
      return own.indexOf(Math.max(...own));
    });
    const loss = scope(() => {
      const x = fromArray(backend, values, [rows, inputs], "f32", "x");
      const targets = fromArray(backend, largest, [rows], "u32", "targets");
      const weights = fromArray(backend, new Float32Array(rows).fill(-1 / rows), [rows], "f32", "weights");
      const recording = record((): { loss: Tensor } => {
        const gate = linear(x, arena.get("gate"), arena.get("gate bias"), null);
        const y = swiglu(gate, linear(x, arena.get("up"))); // [rows, hidden]
        const normed = rmsNorm(y, arena.get("norm"), 1e-6, null);
        const { logProbs } = head(normed, arena.get("head"), targets, { temperature: 1 }, null);
        return { loss: weightedSum(logProbs, weights) };
      });
      const { loss } = recording.result;
      recording.backward(new Map([[loss, fromArray(backend, [1], loss.shape)]]), arena.gradients);
      return loss;
    });
    const optimiser = {
      learningRate: 0.003,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0,
      maxGradientNorm: 1,
    };
    const update = adamwStep(arena, { ...optimiser, step, losses: [loss] });
    await update.result();
    return (await loss.read())[0];
  });
}

// One AdamW step over all parameters of the model, or over those of fewer layers if the card's memory does not hold all.

import { OutOfMemoryError } from "../../engine/errors.ts";
import { adamwStep, type ParameterArena } from "../../engine/index.ts";
import { sizeOf } from "../../engine/tensor.ts";
import { makeWeights, parameterShapes, type Qwen2Model, qwen2Model } from "../../model/index.ts";
import { Numbers } from "./numbers.ts";
import { type Bench, type Measured, type PartOf, readRows, spread } from "./part.ts";
import { countOf } from "./random-model.ts";

const settings = {
  ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 },
  maxGradientNorm: 1,
} as const;
const gradientScale = 0.1;

function numbersOf(tensor: number): { value: Numbers; gradient: Numbers } {
  return { value: new Numbers(2 * tensor), gradient: new Numbers(2 * tensor + 1, gradientScale) };
}

/** @returns the arena, and the norm of all its gradients */
function makeArena(bench: Bench, config: Qwen2Model): { arena: ParameterArena; gradientNorm: number } {
  const arena = makeWeights(bench.backend, config, { trainable: true });
  let squares = 0;
  [...parameterShapes(config)].forEach(([name, shape], tensor) => {
    const { value, gradient } = numbersOf(tensor);
    arena.load(name, value.array(sizeOf(shape)));
    const gradients = gradient.array(sizeOf(shape));
    for (const one of gradients) squares += one * one;
    arena.load(name, gradients, "gradients");
    arena.gradients.mark(arena.value(name));
  });
  return { arena, gradientNorm: Math.sqrt(squares) };
}

async function measureStep(bench: Bench, config: Qwen2Model): Promise<Measured> {
  const { arena, gradientNorm } = makeArena(bench, config);
  try {
    await bench.backend.idle();
    adamwStep(arena, { ...settings, step: 1 });
    const checked = await check(bench, arena, config, gradientNorm);
    let step = 1;
    const time = await bench.time(() => void adamwStep(arena, { ...settings, step: ++step }));
    const all = countOf(config);
    const copied = countOf(config, (name) => name.endsWith("_proj.weight") || name.includes("embed"));
    // The gradient twice (its norm comes first), value and moments read and written; then the panel copies are written.
    return { ...time, checked, flops: 17 * all, bytes: 4 * 8 * all + 4 * 2 * copied };
  } finally {
    arena.free();
  }
}

/** After the first step m = (1 − β1)·g and v = (1 − β2)·g², and both corrections undo the factors. */
async function check(bench: Bench, arena: ParameterArena, config: Qwen2Model, gradientNorm: number): Promise<string> {
  const clip = Math.min(1, settings.maxGradientNorm / (gradientNorm + 1e-6));
  const { learningRate, beta1, beta2, epsilon, weightDecay } = settings;
  const shapes = [...parameterShapes(config)];
  const found = { values: [] as number[], moments: [] as number[] };
  const wanted = { values: [] as number[], moments: [] as number[] };
  for (const tensor of spread(shapes.length, 6)) {
    const [name] = shapes[tensor];
    const { value, gradient } = numbersOf(tensor);
    const [values, moments] = [arena.value(name), arena.moment1(name)];
    const rows = spread(values.rows, 2);
    const [readValues, readMoments] = [await readRows(values, rows), await readRows(moments, rows)];
    for (const [i, row] of rows.entries())
      for (const column of spread(values.rowSize, 4)) {
        const place = row * values.rowSize + column;
        const g = clip * gradient.at(place);
        const m = ((1 - beta1) * g) / (1 - beta1);
        const v = ((1 - beta2) * g * g) / (1 - beta2);
        found.values.push(readValues[i][column]);
        wanted.values.push(
          value.at(place) * (1 - learningRate * weightDecay) - (learningRate * m) / (Math.sqrt(v) + epsilon),
        );
        found.moments.push(readMoments[i][column]);
        wanted.moments.push((1 - beta1) * g);
      }
  }
  return [
    bench.compare("values", found.values, wanted.values, 2e-5),
    bench.compare("first moments", found.moments, wanted.moments, 2e-5),
  ].join(", ");
}

/** Tries all layers, then half of them, and so on, until the memory suffices. */
async function measure(bench: Bench): Promise<Measured> {
  const { model } = bench.sizes;
  for (let layers = model.numHiddenLayers; ; layers = Math.floor(layers / 2)) {
    const config = qwen2Model({ ...model, numHiddenLayers: layers });
    try {
      const found = await measureStep(bench, config);
      const millions = (one: Qwen2Model): string => (countOf(one) / 1e6).toFixed(1);
      if (layers === model.numHiddenLayers) return found;
      return { ...found, note: `${millions(config)} of ${millions(model)} million parameters: memory holds no more` };
    } catch (thrown) {
      if (!(thrown instanceof OutOfMemoryError) || layers <= 1) throw thrown;
    }
  }
}

export const adamw: PartOf = ({ model, modelName }) => ({
  cases: [
    {
      name: `AdamW step, ${modelName}, ${(countOf(model) / 1e6).toFixed(1)} million parameters`,
      flops: 17 * countOf(model),
      peer: { kind: "adamw", shapes: [...parameterShapes(model).values()] },
      measure,
    },
  ],
});

// A grid point of a landscape beside an unperturbed evaluation of the same sequences: the perturbed weights are written,
// then scoring and decoding read them.
import { directionNormals, wordsOf } from "../../engine/index.ts";
import { makeSlice, type Slice, stepsTo } from "../../landscape/measure/directions.ts";
import { PerturbedWeights } from "../../landscape/measure/perturbed-weights.ts";
import { score } from "../../model/index.ts";
import { forwardFlops } from "../model/model-work.ts";
import type { Bench, Case, Measured, PartOf } from "./part.ts";
import { countOf, idsOf, type RandomModel } from "./random-model.ts";
import { decodeRows, OneModel, wall } from "./whole-model.ts";

const cell = { i: 0, j: 0, alpha: 0.5, beta: -0.25, squaredSteps: 1 };
const centre = { ...cell, alpha: 0, beta: 0 };
const embedding = "model.embed_tokens.weight";

interface Ready {
  model: RandomModel;
  perturbed: PerturbedWeights;
  slice: Slice;
  /** An element of the perturbed embedding at `cell`, in float64. */
  embeddingAt: (row: number, column: number, width: number) => Promise<number>;
}

export const landscape: PartOf = ({ model: config, modelName, landscape: size, decode: { promptTokens, rows } }) => {
  const held = new OneModel();
  let ready: Promise<Ready> | null = null;

  async function prepare(bench: Bench): Promise<Ready> {
    const model = await held.get(bench.backend, config, { trainable: false, precision: "f32" });
    const slice = await makeSlice(model.weights, 1, 0);
    const perturbed = new PerturbedWeights(model.weights, 1);
    const embeddingAt = async (row: number, column: number, width: number): Promise<number> => {
      let value = (await model.weights.value(embedding).sliceRows(row, 1).read())[column];
      for (const step of stepsTo(cell, slice, embedding)) {
        if (step.kind !== "gaussian") throw new Error("landscape: the slice has no Gaussian for the embedding");
        value += step.coefficient * directionNormals(step.key, wordsOf(embedding), 1, row * width + column)[0];
      }
      return value;
    };
    return { model, perturbed, slice, embeddingAt };
  }
  const get = (bench: Bench): Promise<Ready> => {
    ready ??= prepare(bench);
    return ready;
  };

  const sequences = Array.from({ length: size.sequences }, (_, i) => ({
    ids: idsOf(size.tokens, config.vocabSize, i),
  }));
  const maxTokens = size.sequences * size.tokens;
  const flops = size.sequences * forwardFlops(config, size.tokens, 0, size.tokens - 1);
  const settings = { temperature: 1, maxTokens };
  const what = `${modelName}, ${size.sequences} × ${size.tokens} tokens`;

  async function repeated(bench: Bench, body: () => Promise<unknown>): Promise<Omit<Measured, "checked">> {
    await body();
    const times: number[] = [];
    while (times.length < 5) {
      const begun = performance.now();
      await body();
      times.push(performance.now() - begun);
      if (bench.leftMs < 4 * times[times.length - 1]) break;
    }
    return wall(times);
  }

  const cases: Case[] = [
    {
      name: `write perturbed weights, ${modelName}`,
      flops: 4 * countOf(config),
      bytes: 4 * 2 * countOf(config),
      async measure(bench) {
        const { perturbed, slice, embeddingAt } = await get(bench);
        const time = await bench.time(() => perturbed.place([cell], slice));
        const parameter = perturbed.get(embedding);
        const rowsOf = parameter.kind === "slots" ? (parameter.slots.get(0)?.rows ?? null) : null;
        if (rowsOf === null) return { ...time, checked: null };
        const [found, expected]: [number[], number[]] = [[], []];
        for (const row of [0, rowsOf.rows >> 1, rowsOf.rows - 1]) {
          const values = await rowsOf.sliceRows(row, 1).read();
          for (const column of [0, 1, rowsOf.rowSize - 1]) {
            found.push(values[column]);
            expected.push(await embeddingAt(row, column, rowsOf.rowSize));
          }
        }
        return { ...time, checked: bench.compare("perturbed weights", found, expected, 4e-6) };
      },
    },
    {
      name: `score unperturbed ${what}`,
      flops,
      tokens: maxTokens,
      async measure(bench) {
        const { model } = await get(bench);
        const time = await repeated(bench, () => score(model, sequences, settings));
        const scores = await score(model, sequences, settings);
        const alone = await score(model, sequences.slice(-1), settings);
        const checked = bench.compare(
          "log-probabilities of a sequence alone",
          alone[0].logProbs,
          scores[scores.length - 1].logProbs,
          0,
        );
        return { ...time, checked };
      },
    },
    {
      name: `score grid point ${what}`,
      flops,
      tokens: maxTokens,
      async measure(bench) {
        const { model, perturbed, slice } = await get(bench);
        const moved = { ...model, weights: perturbed };
        perturbed.place([centre], slice);
        const [atCentre] = await score(moved, sequences.slice(0, 1), settings);
        const [own] = await score(model, sequences.slice(0, 1), settings);
        const checked = bench.compare("log-probabilities at the centre", atCentre.logProbs, own.logProbs, 0);
        perturbed.place([cell], slice);
        const time = await repeated(bench, () => score(moved, sequences, settings));
        return { ...time, checked };
      },
    },
    ...(["unperturbed", "grid point"] as const).map(
      (which): Case => ({
        name: `decode ${which} ${modelName}, ${Math.max(...rows)} rows`,
        flops: Math.max(...rows) * forwardFlops(config, 1, promptTokens, 1),
        tokens: Math.max(...rows),
        async measure(bench) {
          const { model, perturbed, slice } = await get(bench);
          if (which === "grid point") perturbed.place([cell], slice);
          const own = which === "grid point" ? { ...model, weights: perturbed } : model;
          const prompt = idsOf(promptTokens, config.vocabSize);
          const count = Math.max(...rows);
          await decodeRows(own, prompt, count, 2);
          const { milliseconds, answers } = await decodeRows(own, prompt, count, 16);
          const other = answers.find(({ ids }) => ids.join() !== answers[0].ids.join());
          if (other !== undefined)
            throw new Error(
              `wrong value: rows of one prompt have different tokens: ${answers[0].ids} and ${other.ids}`,
            );
          return { ...wall([milliseconds]), runsPerSample: 16, checked: `${count} equal rows` };
        },
      }),
    ),
  ];
  return {
    cases,
    free: () => {
      ready?.then(
        ({ perturbed }) => perturbed.free(),
        () => {},
      );
      held.free();
    },
  };
};

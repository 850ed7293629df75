// directions.json: the numbers of numpy and torch that tests of directions compare with.
import { CpuBackend } from "../../../engine/backends/cpu.ts";
import { ParameterArena } from "../../../engine/index.ts";
import type { RawDirection } from "../../../landscape/measure/directions/norm-rules.ts";
import { readFixture } from "../../support.ts";

type Nested = readonly (number | readonly number[])[];
type Tensors = Readonly<Record<string, Nested>>;

export interface Known {
  shapes: Record<string, number[]>;
  weights: Tensors;
  first: Tensors;
  second: Tensors;
  usedRows: number[];
  rules: Record<string, Tensors>;
  orthogonal: number[];
  trajectory: Tensors[];
  variance: number[];
  components: number[][];
  adamw: {
    gradient: number[];
    norm: number;
    moment1: number[];
    moment2: number[];
    beta1: number;
    beta2: number;
    epsilon: number;
    maxGradientNorm: number;
    steps: { updates: number; direction: number[] }[];
  };
  rankOne: { seed: number; slice: number; axis: string; tensor: string; product: number[][]; scaled: number[][] };
}

export const known = readFixture<Known>("directions.json");
export const names = Object.keys(known.shapes);

/** An arena of the fixture's weights in float64. */
export function knownArena(): ParameterArena {
  const entries = new Map(names.map((name) => [name, { shape: known.shapes[name] }]));
  const arena = new ParameterArena(new CpuBackend(), entries, { dtype: "f64" });
  for (const name of names) arena.load(name, known.weights[name].flat());
  return arena;
}

export const given = (of: Tensors): RawDirection => ({ key: null, write: (name, into) => into.write(of[name].flat()) });

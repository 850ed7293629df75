// An op is a differentiable function of tensors: shape rule, forward and vector–Jacobian product in one place. Calling
// it checks shapes, allocates the outputs, runs the kernels and, while a tape records, records what the backward pass
// needs.
import { type Node, noGradient, recordNode, shouldRecord } from "./autograd.ts";
import { type DType, isFloat } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import { type GradientTarget, type Run, run } from "./run.ts";
import { empty, type Shape, type Tensor } from "./tensor.ts";

/** I: inputs. O: outputs, which have upstream gradients. S: tensors saved for the vjp, which have none. */
export interface OpDefinition<I extends string, O extends string, S extends string, Settings> {
  name: string;
  /** Inputs that may be left out. */
  optional?: readonly I[];
  /** Inputs that are treated as constants: no gradient flows into them, whatever made them. */
  constants?: readonly I[];
  /** Checks the inputs' shapes and returns those of outputs and saved tensors. */
  shapes: (inputs: { [K in I]: Shape }, settings: Settings) => { [K in O | S]: Shape };
  /** Names of the saved tensors. No gradient passes through them; the tape refuses a gradient that would have to. */
  saved?: readonly S[];
  /** dtype of outputs and saved tensors if it is not that of the first floating-point input. */
  dtypes?: Partial<Record<O | S, DType>>;
  forward: (run: Run, inputs: { [K in I]: Tensor }, outputs: { [K in O | S]: Tensor }, settings: Settings) => void;
  /**
   * Writes the requested gradients: `d` has a target for each of them and nothing for the others. `saved` holds the
   * op's inputs, outputs and saved tensors.
   */
  vjp?: (
    run: Run,
    saved: { [K in I | O | S]: Tensor },
    upstream: { [K in O]: Tensor },
    d: { [K in I]?: GradientTarget },
    settings: Settings,
  ) => void;
}

export interface Op<I extends string, O extends string, S extends string, Settings> {
  (inputs: { [K in I]: Tensor | null }, settings: Settings): { [K in O | S]: Tensor };
  readonly definition: OpDefinition<I, O, S, Settings>;
}

/** An op that saves tensors must name them. */
type NamesSaved<S extends string> = [S] extends [never] ? unknown : { saved: readonly S[] };

export function defineOp<I extends string, O extends string, S extends string = never, Settings = Record<never, never>>(
  definition: OpDefinition<I, O, S, Settings> & NamesSaved<S>,
): Op<I, O, S, Settings> {
  const call = (given: { [K in I]: Tensor | null }, settings: Settings): { [K in O | S]: Tensor } => {
    const inputs = Object.fromEntries(Object.entries(given).filter(([, tensor]) => tensor !== null)) as {
      [K in I]: Tensor;
    };
    const present: Tensor[] = Object.values(inputs);
    const first = present[0];
    const shapes = definition.shapes(
      mapValues(inputs, (tensor: Tensor) => tensor.shape),
      settings,
    );
    const dtype = present.find((tensor) => isFloat(tensor.dtype))?.dtype ?? "f32";
    const outputs = mapValues(shapes, (shape: Shape, name) =>
      empty(first.backend, shape, definition.dtypes?.[name] ?? dtype, `${definition.name}.${name}`),
    );
    // Views that the forward pass makes of its tensors are internal: the tape sees the op as a whole.
    noGradient(() => definition.forward(run, inputs, outputs, settings));
    const { vjp } = definition;
    const constants: readonly string[] = definition.constants ?? [];
    const followed: Record<string, Tensor> = Object.fromEntries(
      Object.entries<Tensor>(inputs).filter(([name]) => !constants.includes(name)),
    );
    if (vjp !== undefined && shouldRecord(Object.values(followed))) {
      const node: Node = {
        name: definition.name,
        inputs: followed,
        ...partition(outputs, definition.saved ?? []),
        backward: (upstream, targets) =>
          vjp(
            run,
            { ...inputs, ...outputs },
            upstream as { [K in O]: Tensor },
            targets as { [K in I]?: GradientTarget },
            settings,
          ),
      };
      recordNode(node);
    }
    return outputs;
  };
  return Object.assign(call, { definition });
}

/** Outputs that gradients pass through, and outputs that are only saved. */
function partition(
  all: Readonly<Record<string, Tensor>>,
  saved: readonly string[],
): { outputs: Record<string, Tensor>; saved: Record<string, Tensor> } {
  const entries = Object.entries(all);
  return {
    outputs: Object.fromEntries(entries.filter(([name]) => !saved.includes(name))),
    saved: Object.fromEntries(entries.filter(([name]) => saved.includes(name))),
  };
}

function mapValues<K extends string, T, U>(record: { [P in K]: T }, map: (value: T, key: K) => U): { [P in K]: U } {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value as T, key as K)])) as {
    [P in K]: U;
  };
}

/** Throws unless `actual` is `expected`; `why` explains how the two are related. */
export function expectShape(what: string, actual: Shape, expected: Shape, why: string): void {
  if (actual.length !== expected.length || actual.some((n, i) => n !== expected[i]))
    throw new ShapeError(`${what}: expected [${expected}], got [${actual}]. ${why}`);
}

/** Throws unless `actual` has `rank` axes, named in `axes` for the message. */
export function expectRank(what: string, actual: Shape, axes: string): void {
  const rank = axes.split(",").length;
  if (actual.length !== rank) throw new ShapeError(`${what}: expected [${axes}], got [${actual}].`);
}

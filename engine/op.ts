// An op is a differentiable function of tensors: shape rule, forward and vector–Jacobian product in one place. Calling
// it checks shapes, allocates the outputs, runs the kernels and, while a tape records, records what the backward pass
// needs.
import { type Node, noGradient, recordNode, shouldRecord } from "./autograd.ts";
import type { Backend } from "./backends/backend.ts";
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
  const { vjp, saved = [] } = definition;
  const constants: ReadonlySet<string> = new Set(definition.constants);
  const savedNames: ReadonlySet<string> = new Set(saved);
  const call = (given: { [K in I]: Tensor | null }, settings: Settings): { [K in O | S]: Tensor } => {
    const inputs: Partial<Record<I, Tensor>> = {};
    const inputShapes: Partial<Record<I, Shape>> = {};
    /** Those that a gradient may flow into. */
    const followed: Tensor[] = [];
    let backend: Backend | undefined;
    let dtype: DType | undefined;
    for (const name in given) {
      const tensor = given[name];
      if (tensor === null) continue;
      inputs[name] = tensor;
      inputShapes[name] = tensor.shape;
      backend ??= tensor.backend;
      if (dtype === undefined && isFloat(tensor.dtype)) dtype = tensor.dtype;
      if (!constants.has(name)) followed.push(tensor);
    }
    if (backend === undefined) throw new ShapeError(`${definition.name}: no inputs`);
    // An input that is absent is one that `optional` names.
    const present = inputs as { [K in I]: Tensor };
    const shapes: Record<O | S, Shape> = definition.shapes(inputShapes as { [K in I]: Shape }, settings);
    const made: Partial<Record<O | S, Tensor>> = {};
    for (const name of Object.keys(shapes) as (O | S)[])
      made[name] = empty(
        backend,
        shapes[name],
        definition.dtypes?.[name] ?? dtype ?? "f32",
        `${definition.name}.${name}`,
      );
    const outputs = made as { [K in O | S]: Tensor };
    const isRecorded = vjp !== undefined && shouldRecord(followed);
    // Views that the forward pass makes of its tensors are internal: the tape sees the op as a whole.
    noGradient(() => definition.forward(run, present, outputs, settings));
    if (isRecorded) {
      const node: Node = {
        name: definition.name,
        inputs: filter(present, (name) => !constants.has(name)),
        outputs: filter(outputs, (name) => !savedNames.has(name)),
        saved: filter(outputs, (name) => savedNames.has(name)),
        backward: (upstream, targets) =>
          vjp(
            run,
            { ...present, ...outputs },
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

function filter(tensors: Readonly<Record<string, Tensor>>, isKept: (name: string) => boolean): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => isKept(name)));
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

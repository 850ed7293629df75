// Reverse-mode differentiation on a tape. The forward pass writes a list of nodes. `backward` walks it from the end: it
// hands each node the gradients of its outputs and says, per input, whether to assign a gradient or to add to one.
//
// Only the tape can know which: the tied embedding and the residual stream reach the loss twice, and with micro-batches
// a weight already has a gradient. So every kernel that writes a gradient reads this from a flag.
import { accumulateKernel, fillKernel } from "./accumulate.ts";
import { ShapeError } from "./errors.ts";
import { type GradientTarget, onRun, run } from "./run.ts";
import { keep, scope } from "./scope.ts";
import { empty, fromArray, onView, Tensor } from "./tensor.ts";

export interface Node {
  name: string;
  inputs: Readonly<Record<string, Tensor>>;
  outputs: Readonly<Record<string, Tensor>>;
  /**
   * Tensors that the op saves for its vjp and also returns. No gradient passes through them: an upstream gradient is an
   * error.
   */
  saved?: Readonly<Record<string, Tensor>>;
  backward: (upstream: Record<string, Tensor>, targets: Record<string, GradientTarget>) => void;
  /**
   * For views (input x, output y): the row of x at which y begins; null if y holds all of x under another shape. Such a
   * node needs no kernel in the backward pass: dy, in the shape of x, is dx or some rows of it.
   */
  viewFrom?: number | null;
}

let tape: Node[] | null = null;

export function shouldRecord(inputs: readonly Tensor[]): boolean {
  return tape !== null && inputs.some((t) => t.requiresGradient);
}

export function recordNode(node: Node): void {
  for (const output of [...Object.values(node.outputs), ...Object.values(node.saved ?? {})])
    output.requiresGradient = true;
  tape?.push(node);
}

onView((x, y, from) => {
  if (shouldRecord([x]))
    recordNode({
      name: from === null ? "view" : "sliceRows",
      inputs: { x },
      outputs: { y },
      viewFrom: from,
      backward: () => {},
    });
});

/** Whether a tape is recording, so that the results of ops are kept for a backward pass. */
export function isRecording(): boolean {
  return tape !== null;
}

/** Runs `body` without recording. */
export function noGradient<T>(body: () => T): T {
  const outer = tape;
  tape = null;
  try {
    return body();
  } finally {
    tape = outer;
  }
}

onRun((kernel, bindings, tensors) => {
  if (tape === null) return;
  tensors.forEach((tensor, i) => {
    if (tensor.requiresGradient)
      throw new Error(
        `run: kernel ${kernel}: ${bindings[i]}: [${tensor.shape}] requires a gradient, which would be lost here. Make an op ` +
          "of the kernel (defineOp), or run it under noGradient.",
      );
  });
});

/** `x.view(shape)`: the same elements under another shape, without a copy. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return x.view(shape);
}

/**
 * Where the gradients of leaves are stored. `has` says whether a sum has begun already (by an earlier micro-batch); the
 * tape marks what it writes.
 */
export interface GradientStore {
  target(leaf: Tensor): Tensor | undefined;
  has(leaf: Tensor): boolean;
  mark(leaf: Tensor): void;
}

/** Gradients in tensors that are allocated when needed. No scope owns them: `free` frees them all. */
export class GradientMap implements GradientStore {
  readonly #wanted: ReadonlySet<Tensor> | null;
  readonly #found = new Map<Tensor, Tensor>();
  readonly #marked = new Set<Tensor>();

  /** @param leaves  tensors whose gradients are wanted. Default: all leaves that occur */
  constructor(leaves?: Iterable<Tensor>) {
    this.#wanted = leaves === undefined ? null : new Set(leaves);
  }
  target(leaf: Tensor): Tensor | undefined {
    if (this.#wanted !== null && !this.#wanted.has(leaf)) return undefined;
    const found = this.#found.get(leaf) ?? keep(empty(leaf.backend, leaf.shape, leaf.dtype, "gradient"));
    this.#found.set(leaf, found);
    return found;
  }
  has(leaf: Tensor): boolean {
    return this.#marked.has(leaf);
  }
  mark(leaf: Tensor): void {
    this.#marked.add(leaf);
  }
  /** The gradient of a leaf; undefined if the loss does not depend on it. */
  get(leaf: Tensor): Tensor | undefined {
    return this.#marked.has(leaf) ? this.#found.get(leaf) : undefined;
  }
  free(): void {
    for (const tensor of this.#found.values()) tensor.free();
  }
}

/** Upstream gradients, by output of the recording. */
export type Seeds = ReadonlyMap<Tensor, Tensor>;

/** The tape of one forward pass. */
export class Recording<T> {
  readonly result: T;
  readonly #nodes: readonly Node[];
  /** Every output that a gradient passes through, and every saved tensor, with its name for messages. */
  readonly #made = new Map<Tensor, string>();
  readonly #saved = new Map<Tensor, string>();

  constructor(result: T, nodes: readonly Node[]) {
    this.result = result;
    this.#nodes = nodes;
    for (const { name, outputs, saved = {} } of nodes) {
      for (const [key, output] of Object.entries(outputs)) this.#made.set(output, `"${key}" of ${name}`);
      for (const [key, tensor] of Object.entries(saved)) this.#saved.set(tensor, `"${key}" of ${name}`);
    }
  }

  /** Whether an op of this recording made the tensor from one that requires a gradient. */
  made(tensor: Tensor): boolean {
    return this.#made.has(tensor);
  }

  /**
   * Gradients of the result, a tensor of one number, for every leaf that it depends on. The caller frees them (`free`).
   * @throws ShapeError if the result is not one number
   */
  backward(): GradientMap;
  /** Adds the gradients of the result, a tensor of one number, to `store`, for every leaf that the store wants. */
  backward<S extends GradientStore>(store: S): S;
  /**
   * Adds d(Σ output · seed)/d(leaf) to `store`, for every leaf that the store wants. The tape is not changed: a second
   * call adds the same again.
   * @param seeds  upstream gradients of outputs, each in the shape of its output
   * @returns      `store`
   * @throws Error if a seed is for a tensor that the recording did not make, or if a gradient arrives at a tensor that
   *         an op only saves for its vjp (such as `ratio` of surrogate)
   * @throws ShapeError if a seed has another shape than its output
   */
  backward<S extends GradientStore>(seeds: Seeds, store: S): S;
  backward(first: Seeds | GradientStore = new GradientMap(), second?: GradientStore): GradientStore {
    if (second !== undefined && !("target" in first)) {
      this.#walk(first, second);
      return second;
    }
    if (!("target" in first))
      throw new Error("backward: seeds, but no store. Say where gradients go: backward(seeds, store).");
    scope(() => {
      const result = this.#scalarResult();
      this.#walk(new Map([[result, fromArray(result.backend, [1], result.shape, result.dtype, "seed")]]), first);
    });
    return first;
  }

  #scalarResult(): Tensor {
    const { result } = this;
    if (!(result instanceof Tensor))
      throw new ShapeError("backward: the recording's result is not a tensor. Give seeds: backward(seeds, store).");
    if (result.size !== 1)
      throw new ShapeError(
        `backward: the recording's result is [${result.shape}]. Without seeds it must be one number, such as a loss [1]. ` +
          "Give seeds: backward(seeds, store).",
      );
    return result;
  }

  #walk(seeds: Seeds, store: GradientStore): void {
    for (const [output, seed] of seeds) this.#expectSeed(output, seed);
    // Gradients of all tensors between leaves and outputs. Those made here are freed as soon as their node is done.
    const gradients = new Map<Tensor, Gradient>();
    for (const [output, seed] of seeds) gradients.set(output, { tensor: seed, owned: false });
    const outer = currentPass;
    currentPass = { gradients, made: this.#made, saved: this.#saved, store };
    const pass = currentPass;
    try {
      // If a tape is recording, the computation of gradients is not itself recorded.
      noGradient(() => {
        for (let i = this.#nodes.length - 1; i >= 0; i--) walkNode(this.#nodes[i], pass);
      });
    } finally {
      currentPass = outer;
      for (const { tensor, owned } of gradients.values()) if (owned) tensor.free();
    }
  }

  #expectSeed(output: Tensor, seed: Tensor): void {
    const name = this.#made.get(output);
    if (name === undefined) {
      const saved = this.#saved.get(output);
      throw new Error(
        saved === undefined
          ? `backward: a seed is for a tensor [${output.shape}] that this recording did not make. It was made outside ` +
              "`record` or under `noGradient`, or it depends on no tensor that requires a gradient."
          : `backward: a seed is for ${saved}. ${noPassage}`,
      );
    }
    if (seed.shape.length !== output.shape.length || seed.shape.some((n, i) => n !== output.shape[i]))
      throw new ShapeError(`backward: seed of ${name}: expected [${output.shape}], got [${seed.shape}].`);
  }
}

const noPassage = "The op only saves it for its own backward pass: no gradient passes through it.";

/** A backward pass in progress. */
interface Pass {
  readonly gradients: Map<Tensor, Gradient>;
  readonly made: ReadonlyMap<Tensor, string>;
  readonly saved: ReadonlyMap<Tensor, string>;
  readonly store: GradientStore;
}

/** Recomputed parts find the enclosing pass here. */
let currentPass: Pass | null = null;

function walkNode(node: Node, walk: Pass): void {
  const { gradients } = walk;
  const outputs = Object.entries(node.outputs);
  if (!outputs.some(([, output]) => gradients.has(output))) return;
  scope(() => {
    if (node.viewFrom !== undefined) passView(node, node.viewFrom, walk);
    else {
      const upstream = Object.fromEntries(
        outputs.map(([name, output]) => [name, gradients.get(output)?.tensor ?? zerosLike(output)]),
      );
      const { targets, repeats } = targetsOf(node, walk);
      node.backward(upstream, targets);
      for (const { from, into } of repeats) pass(from, { tensor: into, add: true });
    }
  });
  for (const [, output] of outputs) {
    const gradient = gradients.get(output);
    gradients.delete(output);
    if (gradient?.owned) gradient.tensor.free();
  }
}

/** Where to store the gradient of a tensor that the recording did not make. */
function leafTarget(leaf: Tensor, { saved, store }: Pass): Tensor | undefined {
  const name = saved.get(leaf);
  if (name !== undefined)
    throw new Error(
      `backward: a gradient arrived at ${name}. ${noPassage} To take it as a constant, use it under noGradient.`,
    );
  return store.target(leaf);
}

interface Gradient {
  tensor: Tensor;
  owned: boolean;
}

/**
 * The targets of a node's gradients. If one tensor is two of its inputs, the second gradient gets a separate tensor
 * (`repeats`): one kernel may write both, and WebGPU lets no dispatch write one buffer through two bindings.
 */
function targetsOf(
  node: Node,
  walk: Pass,
): { targets: Record<string, GradientTarget>; repeats: { from: Tensor; into: Tensor }[] } {
  const { gradients, made, store } = walk;
  const targets: Record<string, GradientTarget> = {};
  const repeats: { from: Tensor; into: Tensor }[] = [];
  const first = new Map<Tensor, Tensor>();
  for (const [name, input] of Object.entries(node.inputs)) {
    if (!input.requiresGradient) continue;
    const earlier = first.get(input);
    if (earlier !== undefined) {
      const apart = empty(input.backend, input.shape, input.dtype, `${node.name}.${name}.gradient`);
      targets[name] = { tensor: apart, add: false };
      repeats.push({ from: apart, into: earlier });
      continue;
    }
    if (made.has(input)) {
      const present = gradients.get(input);
      const tensor =
        present === undefined
          ? keep(empty(input.backend, input.shape, input.dtype, `${node.name}.${name}.gradient`))
          : owned(present, gradients, input);
      if (present === undefined) gradients.set(input, { tensor, owned: true });
      targets[name] = { tensor, add: present !== undefined };
    } else {
      const tensor = leafTarget(input, walk);
      if (tensor === undefined) continue;
      targets[name] = { tensor, add: store.has(input) };
      store.mark(input);
    }
    first.set(input, targets[name].tensor);
  }
  return { targets, repeats };
}

/** into = from, or into += from: the same number of elements, possibly with other shapes and cuts. */
function pass(from: Tensor, { tensor, add }: GradientTarget): void {
  const flat = [from.size];
  run(accumulateKernel, { x: from.view(flat), y: { tensor: tensor.view(flat), add } }, { rowSize: 1, factor: 1 });
}

/** A gradient that may be added to. Seeds belong to the caller, so they are copied first. */
function owned(present: Gradient, gradients: Map<Tensor, Gradient>, of: Tensor): Tensor {
  if (present.owned) return present.tensor;
  const copy = keep(empty(of.backend, of.shape, of.dtype, "gradient"));
  pass(present.tensor, { tensor: copy, add: false });
  gradients.set(of, { tensor: copy, owned: true });
  return copy;
}

/** Passes the gradient of a view's output on to its input. */
function passView(node: Node, from: number | null, walk: Pass): void {
  const { gradients, made, store } = walk;
  const { x } = node.inputs;
  const { y } = node.outputs;
  const upstream = gradients.get(y);
  if (upstream === undefined) return;
  /** Adds to the part of x's gradient that y views. If that gradient had not begun, the rest of it is zero. */
  const passInto = (whole: Tensor, add: boolean): void => {
    if (from !== null && y.rows !== x.rows && !add) fillWithZero(whole);
    pass(upstream.tensor, { tensor: from === null ? whole : whole.sliceRows(from, y.rows), add });
  };
  if (made.has(x)) {
    const present = gradients.get(x);
    if (present !== undefined) passInto(owned(present, gradients, x), true);
    else if (y.size === x.size && isCutBetweenRows(upstream.tensor, x)) {
      gradients.set(x, { tensor: upstream.tensor.view(x.shape), owned: upstream.owned });
      gradients.delete(y);
    } else {
      const whole = keep(empty(x.backend, x.shape, x.dtype, "gradient"));
      passInto(whole, false);
      gradients.set(x, { tensor: whole, owned: true });
    }
    return;
  }
  const target = leafTarget(x, walk);
  if (target === undefined) return;
  passInto(target, store.has(x));
  store.mark(x);
}

/**
 * Whether a gradient, whose segments are cut by its own shape, can be viewed in x's shape: not if a cut lies inside a
 * row.
 */
function isCutBetweenRows({ segments, rowSize }: Tensor, x: Tensor): boolean {
  return segments.length === 1 || segments.every(({ rows }) => Number.isInteger((rows * rowSize) / x.rowSize));
}

function zerosLike(tensor: Tensor): Tensor {
  const zeros = empty(tensor.backend, tensor.shape, tensor.dtype, "zeros");
  fillWithZero(zeros);
  return zeros;
}

function fillWithZero(tensor: Tensor): void {
  run(fillKernel, { y: tensor }, { rowSize: tensor.rowSize, value: 0 });
}

/**
 * Runs `body` and records the ops that it applies to tensors that require a gradient.
 * @throws Error if `body` returns a promise: anything it does after waiting would not be recorded
 */
export function record<T>(body: () => T): Recording<T> {
  const outer = tape;
  const nodes: Node[] = [];
  tape = nodes;
  try {
    const result = body();
    if (result instanceof Promise)
      throw new Error(
        "record: the body returned a promise. Only what it does at once is recorded: wait outside of it.",
      );
    return new Recording(result, nodes);
  } finally {
    tape = outer;
  }
}

/**
 * Gradient checkpointing: runs `body(x)` now without keeping its intermediate tensors, and once more in the backward
 * pass (without a tape there is none). `body` must give the same result both times. Parameters inside are leaves and
 * receive their gradients as usual.
 * @returns y, the one output
 * @throws Error if `body` returns x itself, or a view of it: there would be nothing to compute again
 */
export function recompute(name: string, x: Tensor, body: (x: Tensor) => Tensor): Tensor {
  if (tape === null) return scope(() => body(x));
  const y = noGradient(() => scope(() => body(x)));
  if (y.storage === x.storage)
    throw new Error(
      `recompute: ${name}: expected a new tensor, got its input, or a view of it. Call the body without recompute.`,
    );
  recordNode({
    name,
    inputs: { x },
    outputs: { y },
    backward: (upstream, targets) => {
      const again = record(() => body(x));
      const target: GradientTarget | undefined = targets["x"];
      if (currentPass === null) throw new Error(`recompute: ${name}: no backward pass is under way`);
      const through = new PassThrough(name, currentPass, x, target);
      if (again.made(again.result)) again.backward(new Map([[again.result, upstream["y"]]]), through);
      // If the result does not depend on x.
      if (target !== undefined && !through.has(x)) fillWithZero(target.tensor);
    },
  });
  return y;
}

/**
 * Sends the gradient of a recomputed part's input to the target that the outer tape chose, and all others to the outer
 * store.
 */
class PassThrough implements GradientStore {
  readonly #name: string;
  readonly #outer: Pass;
  readonly #input: Tensor;
  readonly #target: GradientTarget | undefined;
  #written: boolean;

  constructor(name: string, outer: Pass, input: Tensor, target: GradientTarget | undefined) {
    this.#name = name;
    this.#outer = outer;
    this.#input = input;
    this.#target = target;
    this.#written = target?.add ?? false;
  }
  target(leaf: Tensor): Tensor | undefined {
    if (leaf === this.#input) return this.#target?.tensor;
    const made = this.#outer.made.get(leaf);
    if (made !== undefined)
      throw new Error(
        `recompute: ${this.#name}: the body uses ${made}, which was made outside of it. Its gradient would be lost: ` +
          "compute it inside the body, or call the body without recompute.",
      );
    return leafTarget(leaf, this.#outer);
  }
  has(leaf: Tensor): boolean {
    return leaf === this.#input ? this.#written : this.#outer.store.has(leaf);
  }
  mark(leaf: Tensor): void {
    if (leaf === this.#input) this.#written = true;
    else this.#outer.store.mark(leaf);
  }
}

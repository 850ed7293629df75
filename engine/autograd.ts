// Reverse-mode differentiation on a tape. The forward pass writes a list of nodes; `backward` walks it from the end, handing
// each node the gradients of its outputs and telling it, per input, whether to assign a gradient or to add to one.
//
// The tape alone can know which: the tied embedding reaches the loss twice, so does the residual stream, and with
// micro-batches a weight's gradient exists already. So every kernel that writes a gradient takes that from a flag.
import { accumulateKernel, fillKernel } from "./accumulate.ts";
import { type GradientTarget, run } from "./run.ts";
import { keep, scope } from "./scope.ts";
import { empty, type Tensor } from "./tensor.ts";

export interface Node {
  name: string;
  inputs: Readonly<Record<string, Tensor>>;
  outputs: Readonly<Record<string, Tensor>>;
  backward: (upstream: Record<string, Tensor>, targets: Record<string, GradientTarget>) => void;
  /** For views: the gradient of the output, reshaped, is the gradient of the input, mostly without work. */
  isView?: boolean;
}

let tape: Node[] | null = null;

export function shouldRecord(inputs: readonly Tensor[]): boolean {
  return tape !== null && inputs.some((t) => t.requiresGradient);
}

export function recordNode(node: Node): void {
  for (const output of Object.values(node.outputs)) output.requiresGradient = true;
  tape?.push(node);
}

/** Whether a tape listens, so that what ops make is kept for a backward pass. */
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

/** The same elements under another shape, followed by the tape. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const y = x.view(shape);
  if (shouldRecord([x]))
    recordNode({ name: "reshape", inputs: { x }, outputs: { y }, isView: true, backward: () => {} });
  return y;
}

/**
 * Where the gradients of leaves go. `has` says whether a sum was begun already (by an earlier micro-batch); the tape marks
 * what it writes.
 */
export interface GradientStore {
  target(leaf: Tensor): Tensor | undefined;
  has(leaf: Tensor): boolean;
  mark(leaf: Tensor): void;
}

/** Gradients in tensors made on demand. */
export class GradientMap implements GradientStore {
  readonly #wanted: ReadonlySet<Tensor>;
  readonly #found = new Map<Tensor, Tensor>();
  readonly #marked = new Set<Tensor>();

  constructor(leaves: Iterable<Tensor>) {
    this.#wanted = new Set(leaves);
  }
  target(leaf: Tensor): Tensor | undefined {
    if (!this.#wanted.has(leaf)) return undefined;
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
  /** The gradient of a leaf; undefined where the loss does not depend on it. */
  get(leaf: Tensor): Tensor | undefined {
    return this.#marked.has(leaf) ? this.#found.get(leaf) : undefined;
  }
  free(): void {
    for (const tensor of this.#found.values()) tensor.free();
  }
}

/** The tape of one forward pass. */
export class Recording<T> {
  readonly result: T;
  readonly #nodes: readonly Node[];

  constructor(result: T, nodes: readonly Node[]) {
    this.result = result;
    this.#nodes = nodes;
  }

  /**
   * Adds d(Σ output · seed)/d(leaf) into `store` for every leaf that it wants. Seeds are the upstream gradients of outputs,
   * each of its output's shape. Works once for each call: the tape is left as it is.
   */
  backward(seeds: ReadonlyMap<Tensor, Tensor>, store: GradientStore): void {
    // Gradients of everything between leaves and outputs. Those made here are freed as soon as their node is done.
    const gradients = new Map<Tensor, Gradient>();
    for (const [output, seed] of seeds) gradients.set(output, { tensor: seed, owned: false });
    const made = new Set<Tensor>();
    for (const node of this.#nodes) for (const output of Object.values(node.outputs)) made.add(output);

    for (let i = this.#nodes.length - 1; i >= 0; i--) {
      const node = this.#nodes[i];
      const outputs = Object.entries(node.outputs);
      if (!outputs.some(([, output]) => gradients.has(output))) continue;
      scope(() => {
        if (node.isView) passView(node, gradients, made, store);
        else {
          const upstream = Object.fromEntries(
            outputs.map(([name, output]) => [name, gradients.get(output)?.tensor ?? zerosLike(output)]),
          );
          const { targets, repeats } = targetsOf(node, gradients, made, store);
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
    for (const { tensor, owned } of gradients.values()) if (owned) tensor.free();
  }
}

interface Gradient {
  tensor: Tensor;
  owned: boolean;
}

/**
 * The targets of a node's gradients. A tensor that is two of its inputs gets its second gradient in a tensor apart
 * (`repeats`), since one kernel may write both and WebGPU lets no dispatch write one buffer through two bindings.
 */
function targetsOf(
  node: Node,
  gradients: Map<Tensor, Gradient>,
  made: ReadonlySet<Tensor>,
  store: GradientStore,
): { targets: Record<string, GradientTarget>; repeats: { from: Tensor; into: Tensor }[] } {
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
      const tensor = store.target(input);
      if (tensor === undefined) continue;
      targets[name] = { tensor, add: store.has(input) };
      store.mark(input);
    }
    first.set(input, targets[name].tensor);
  }
  return { targets, repeats };
}

/** into = from, or into += from: as many elements, under shapes and with cuts of their own. */
function pass(from: Tensor, { tensor, add }: GradientTarget): void {
  const flat = [from.size];
  run(accumulateKernel, { x: from.view(flat), y: { tensor: tensor.view(flat), add } }, { rowSize: 1, factor: 1 });
}

/** A gradient that may be added to: seeds belong to the caller, so they are copied first. */
function owned(present: Gradient, gradients: Map<Tensor, Gradient>, of: Tensor): Tensor {
  if (present.owned) return present.tensor;
  const copy = keep(empty(of.backend, of.shape, of.dtype, "gradient"));
  pass(present.tensor, { tensor: copy, add: false });
  gradients.set(of, { tensor: copy, owned: true });
  return copy;
}

function passView(node: Node, gradients: Map<Tensor, Gradient>, made: ReadonlySet<Tensor>, store: GradientStore): void {
  const { x } = node.inputs;
  const { y } = node.outputs;
  const upstream = gradients.get(y);
  if (upstream === undefined) return;
  if (made.has(x)) {
    const present = gradients.get(x);
    if (present !== undefined) pass(upstream.tensor, { tensor: owned(present, gradients, x), add: true });
    else if (isCutBetweenRows(upstream.tensor, x)) {
      gradients.set(x, { tensor: upstream.tensor.view(x.shape), owned: upstream.owned });
      gradients.delete(y);
    } else {
      const copy = keep(empty(x.backend, x.shape, x.dtype, "gradient"));
      pass(upstream.tensor, { tensor: copy, add: false });
      gradients.set(x, { tensor: copy, owned: true });
    }
    return;
  }
  const target = store.target(x);
  if (target === undefined) return;
  pass(upstream.tensor, { tensor: target, add: store.has(x) });
  store.mark(x);
}

/** Whether a gradient, whose segments are cut by its own shape, can be seen under x's: not where a cut lies inside a row. */
function isCutBetweenRows({ segments, rowSize }: Tensor, x: Tensor): boolean {
  return segments.length === 1 || segments.every(({ rows }) => Number.isInteger((rows * rowSize) / x.rowSize));
}

function zerosLike(tensor: Tensor): Tensor {
  const zeros = empty(tensor.backend, tensor.shape, tensor.dtype, "zeros");
  run(fillKernel, { y: zeros }, { rowSize: zeros.rowSize, value: 0 });
  return zeros;
}

/** Runs `body` and records what it does to tensors that require a gradient. */
export function record<T>(body: () => T): Recording<T> {
  const outer = tape;
  const nodes: Node[] = [];
  tape = nodes;
  try {
    return new Recording(body(), nodes);
  } finally {
    tape = outer;
  }
}

/**
 * Gradient checkpointing: runs `body(x)` now without keeping what it makes inside, and once more in the backward pass (without
 * a tape there is none). `body` must give the same result both times. Parameters inside are leaves and receive their gradients as usual.
 * @returns y, the one output
 */
export function recompute(name: string, x: Tensor, body: (x: Tensor) => Tensor): Tensor {
  if (tape === null) return scope(() => body(x));
  const y = noGradient(() => scope(() => body(x)));
  recordNode({
    name,
    inputs: { x },
    outputs: { y },
    backward: (upstream, targets) => {
      const again = record(() => body(x));
      const store = currentStore;
      if (store === null) throw new Error("recompute: no backward pass is under way");
      const through = new PassThrough(store, x, targets["x"]);
      again.backward(new Map([[again.result, upstream["y"]]]), through);
    },
  });
  return y;
}

let currentStore: GradientStore | null = null;

/** `recording.backward` in which recomputed parts find the store of the pass around them. */
export function backward<T>(recording: Recording<T>, seeds: ReadonlyMap<Tensor, Tensor>, store: GradientStore): void {
  const outer = currentStore;
  currentStore = store;
  try {
    recording.backward(seeds, store);
  } finally {
    currentStore = outer;
  }
}

/** Sends the gradient of a recomputed part's input to the target that the outer tape chose; all else to the outer store. */
class PassThrough implements GradientStore {
  readonly #outer: GradientStore;
  readonly #input: Tensor;
  readonly #target: GradientTarget | undefined;
  #written: boolean;

  constructor(outer: GradientStore, input: Tensor, target: GradientTarget | undefined) {
    this.#outer = outer;
    this.#input = input;
    this.#target = target;
    this.#written = target?.add ?? false;
  }
  target(leaf: Tensor): Tensor | undefined {
    return leaf === this.#input ? this.#target?.tensor : this.#outer.target(leaf);
  }
  has(leaf: Tensor): boolean {
    return leaf === this.#input ? this.#written : this.#outer.has(leaf);
  }
  mark(leaf: Tensor): void {
    if (leaf === this.#input) this.#written = true;
    else this.#outer.mark(leaf);
  }
}

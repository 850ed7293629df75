// The interface of a model: a few numbers, its parameters, and its forward pass. Generation, scoring, the cache, memory
// plans, training and sweeps work with any `LanguageModel`. A model family (qwen2.ts) makes one from config.json;
// families.ts chooses the family. docs/extending/model-family.md shows how to add one.
import {
  gatherRows,
  isRecording,
  type Parameter,
  recompute,
  scope,
  type Tensor,
  type Weights,
} from "../engine/index.ts";
import type { Batch } from "./batch.ts";

/** Facts about a model that every family has; names as in Hugging Face's config.json. */
export interface ModelFacts {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** The class written to `architectures` in config.json, for programs that load the folder. */
  readonly architecture: string;
  readonly vocabSize: number;
  /** Width of the hidden states, C. */
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  /** Number of query heads. */
  readonly numAttentionHeads: number;
  /** Number of key and value heads in the cache, K, and the size of each, D. */
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  /** The longest sequence that the model was made for, in positions. */
  readonly maxPositionEmbeddings: number;
  /** Whether the embedding is also used as the head. */
  readonly tieWordEmbeddings: boolean;
  /** Tokens that end an answer. */
  readonly eosTokenIds: readonly number[];
  /**
   * Whether the forward pass copies keys and values as `LayerCaches.copies` says. Then tokens that several dialogues have in
   * common are computed once. Default: no.
   */
  readonly copiesSlots?: boolean;
}

/**
 * The role of a parameter: `linear`, a matrix [out, in] that only `linear` reads; `embedding`, [rows, C], also if it is
 * used as the head; `norm`, the scale of a norm; `bias`. The role decides which copies of a parameter exist on the
 * device, and the initial values in a random model.
 */
export type ParameterRole = "linear" | "embedding" | "norm" | "bias";

export interface ParameterDescription {
  readonly shape: readonly number[];
  readonly role: ParameterRole;
  /**
   * Matrices of one group are read by one product: their forward copies then follow each other on the device. Their
   * biases form a group too. Default: none.
   */
  readonly group?: string;
}

/**
 * A model without weights. Its methods read the facts from `this`, so a copy with changed facts (`{ ...model,
 * eosTokenIds }`) is also a model.
 */
export interface LanguageModel extends ModelFacts {
  /** Every parameter by its name in the weight files, in the order of the module tree. */
  parameters(): Map<string, ParameterDescription>;
  /** The parameter [V, C] that turns hidden states into logits: hidden · headᵀ. */
  headName(): string;
  /**
   * Hidden states after the final norm. Weights are looked up by name and passed to ops unchanged: a weight may be a
   * set of slots of several perturbed models, for which ops need `batch.rows`.
   * @param cache  null if every token attends only within the batch, along its span
   * @returns      [T, C], a tensor of the innermost scope; or only the rows of `batch.outputs`, [N, C], if it is given.
   *               A family may ignore `batch.outputs`: callers use `finalStates`
   */
  forward(weights: Weights, batch: Batch, cache: LayerCaches | null, options?: ForwardOptions): Tensor;
}

/** Keys and values of earlier tokens, and the slots that receive those of this batch. */
export interface LayerCaches {
  /** For each layer, the cache's storage [S, K, D]. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** The slot of each token of the batch. */
  readonly slots: Tensor; // [T] u32
  /**
   * Once a layer's keys and values are in their slots, and before its attention, those of the slots `from` are copied to the
   * slots `to` (`repeatSlots`). Absent: nothing is copied. Never given to a model without `copiesSlots`.
   */
  readonly copies?: { readonly from: Tensor; readonly to: Tensor } | undefined; // [N] u32
}

export interface ForwardOptions {
  /**
   * Gradient checkpointing: keep only each layer's input, and run the layer again in the backward pass. A third more
   * work, a fraction of the memory.
   */
  recomputeLayers?: boolean;
}

/** A model family, named by `model_type` in config.json. */
export interface ModelFamily {
  readonly modelType: string;
  /**
   * @param configJson  the parsed config.json
   * @param where       its path, for messages
   * @throws CheckpointError listing everything that is missing, wrong or unsupported
   */
  open(configJson: unknown, where: string): LanguageModel;
  /**
   * Adds the keys that other programs expect to a config.json before it is written. Existing keys are unchanged.
   * Without this function the file is written with the keys that were read.
   */
  complete?(configJson: Readonly<Record<string, unknown>>, where: string): Readonly<Record<string, unknown>>;
}

/** Every parameter with its shape, in the order of the module tree. */
export function parameterShapes(model: LanguageModel): Map<string, readonly number[]> {
  return new Map([...model.parameters()].map(([name, { shape }]) => [name, shape]));
}

/**
 * Runs a model's layers one after another. Inside a recording each layer is recorded, or with `recomputeLayers` run
 * again in the backward pass. Outside a recording the tensors of a layer are freed after it.
 * @param x     [T, C], freed if nothing is recorded
 * @param layer computes the layer of the given number, [T, C] → [T, C]
 */
export function runLayers(
  count: number,
  x: Tensor,
  layer: (number: number, x: Tensor) => Tensor,
  { recomputeLayers = false }: ForwardOptions = {},
): Tensor {
  let state = x;
  for (let number = 0; number < count; number++) {
    const body = (input: Tensor): Tensor => layer(number, input);
    if (isRecording()) {
      state = recomputeLayers ? recompute(`layer ${number}`, state, body) : body(state);
      continue;
    }
    const input = state;
    state = scope(() => body(input));
    input.free();
  }
  return state;
}

/**
 * Hidden states after the final norm, of the tokens that the batch wants.
 * @returns  [N, C], a tensor of the innermost scope; [T, C] if all tokens are wanted
 */
export function finalStates(
  model: LanguageModel,
  weights: Weights,
  batch: Batch,
  cache: LayerCaches | null,
  options?: ForwardOptions,
): Tensor {
  const states = model.forward(weights, batch, cache, options);
  const { outputs } = batch;
  // The places are distinct, so as many rows as places are these rows.
  return outputs === undefined || states.rows === outputs.indices.length ? states : gatherRows(states, outputs.indices);
}

/** The weight that turns hidden states into logits. */
export function headWeight(model: LanguageModel, weights: Weights): Parameter {
  return weights.get(model.headName());
}

// What the rest of the program knows about a model: a few numbers, its parameters, and its forward pass. Generation, scoring,
// the cache, memory plans, training and sweeps work with any `LanguageModel`. A family of models (qwen2.ts) makes one from a
// config.json; families.ts knows which family that is. docs/extending/model-family.md adds a family.
import { isRecording, type Parameter, recompute, scope, type Tensor, type Weights } from "../engine/index.ts";
import type { Batch } from "./batch.ts";

/** Facts about a model that every family has; names as in Hugging Face's config.json. */
export interface ModelFacts {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** The class that config.json names in `architectures`, for the programs that load a written folder. */
  readonly architecture: string;
  readonly vocabSize: number;
  /** Width of the hidden states, C. */
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  /** Heads of the queries. */
  readonly numAttentionHeads: number;
  /** Heads of the keys and values that the cache holds, K, and the size of each, D. */
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  /** Positions that the model was made for. */
  readonly maxPositionEmbeddings: number;
  /** Whether the embedding is also the head. */
  readonly tieWordEmbeddings: boolean;
  /** Tokens that end an answer. */
  readonly eosTokenIds: readonly number[];
}

/**
 * What a parameter is: a matrix [out, in] that only `linear` reads; an embedding [rows, C], also one that is the head as well;
 * the scale of a norm; a bias. It decides which copies a parameter has, and what it begins with in a random model.
 */
export type ParameterRole = "linear" | "embedding" | "norm" | "bias";

export interface ParameterDescription {
  readonly shape: readonly number[];
  readonly role: ParameterRole;
}

/**
 * A model without weights. Its methods read the facts of the object that they are called on, so a copy with other facts
 * (`{ ...model, eosTokenIds }`) is a model too.
 */
export interface LanguageModel extends ModelFacts {
  /** Every parameter by its name in the weight files, in the order of the module tree. */
  parameters(): Map<string, ParameterDescription>;
  /** The parameter [V, C] that turns hidden states into logits: hidden · headᵀ. */
  headName(): string;
  /**
   * Hidden states after the final norm. Weights are looked up by name and handed to ops as they are; they may be slots of
   * several perturbed models, and ops need `batch.rows` then.
   * @param cache  null: every token attends within the batch itself, along its span
   * @returns      [T, C], a tensor of the innermost scope
   */
  forward(weights: Weights, batch: Batch, cache: LayerCaches | null, options?: ForwardOptions): Tensor;
}

/** Keys and values of earlier tokens, and where those of this batch are stored. */
export interface LayerCaches {
  /** Of each layer the cache's storage [S, K, D]. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** The slot of each token of the batch. */
  readonly slots: Tensor; // [T] u32
}

export interface ForwardOptions {
  /** Keep only each layer's input for the backward pass and run the layer again there: a third more work, a fraction of the memory. */
  recomputeLayers?: boolean;
}

/** A kind of model, named by `model_type` in config.json. */
export interface ModelFamily {
  readonly modelType: string;
  /**
   * @param configJson  the parsed config.json
   * @param where       its path, for messages
   * @throws CheckpointError listing everything that is missing, wrong or unsupported
   */
  open(configJson: unknown, where: string): LanguageModel;
  /**
   * config.json as it is written: with the keys that other programs expect in it. Keys that it has stay as they are. Absent: a
   * file is written with the keys that it was read with.
   */
  complete?(configJson: Readonly<Record<string, unknown>>, where: string): Readonly<Record<string, unknown>>;
}

/** Every parameter with its shape, in the order of the module tree. */
export function parameterShapes(model: LanguageModel): Map<string, readonly number[]> {
  return new Map([...model.parameters()].map(([name, { shape }]) => [name, shape]));
}

/**
 * Runs a model's layers one after another. Within a recording each is recorded, or with `recomputeLayers` run again in the
 * backward pass; otherwise a layer's tensors are freed with it.
 * @param x     [T, C], freed where nothing is recorded
 * @param layer the layer of that number, [T, C] → [T, C]
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

/** The weight that turns hidden states into logits. */
export function headWeight(model: LanguageModel, weights: Weights): Parameter {
  return weights.get(model.headName());
}

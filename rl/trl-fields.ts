// What each field of TRL's GRPOConfig becomes here (trl 1.16). A field changes the training in one of four ways: it is a
// setting here too; it is one with a difference that is worth saying; it asks for something that is not here, and is refused; or
// it has no effect on what is learnt, and is not in this table (rl/other-names.ts then says why there is no counterpart).
//
// Source: trl/trainer/grpo_config.py, grpo_trainer.py; transformers/training_args.py, optimization.py.

export type Fields = Readonly<Record<string, unknown>>;

/** What a field becomes. */
export interface Translated {
  /** Settings by dotted key. */
  readonly set?: Readonly<Record<string, unknown>>;
  /** The field that they come from, if it is another one that this rule reads beside (`readBeside`). */
  readonly from?: string;
  /** A difference of meaning, in a sentence. */
  readonly differs?: string;
  /** Why this value cannot be translated; the setting that the user may give by hand instead, if there is one. */
  readonly refused?: { readonly why: string; readonly unless?: string };
}

export interface FieldRule {
  /** The value where a file lacks the field: TRL's default. */
  readonly absent: unknown;
  /** The setting that the user may give by hand if the value cannot be used (`unusable`). */
  readonly key?: string;
  translate(value: unknown, fields: Fields): Translated;
}

const direct = (absent: unknown, key: string): FieldRule => ({
  absent,
  key,
  translate: (value) => ({ set: { [key]: value } }),
});

/** A field whose every value but the default asks for something that is not here. */
const only = (absent: unknown, why: string, others: readonly unknown[] = []): FieldRule => ({
  absent,
  translate: (value) =>
    [absent, ...others].includes(value) || isEmpty(value) ? {} : { refused: { why: `${shown(value)}: ${why}` } },
});

const isEmpty = (value: unknown): boolean =>
  typeof value === "object" && value !== null && Object.keys(value).length === 0;

/** As Python's json writes it: NaN and Infinity too. */
export const shown = (value: unknown): string =>
  typeof value === "number" && !Number.isFinite(value)
    ? String(value)
    : Array.isArray(value)
      ? `[${value.map(shown).join(",")}]`
      : (JSON.stringify(value) ?? String(value));
const numberOf = (value: unknown): number => (typeof value === "number" ? value : Number.NaN);

const lossTypes: Readonly<Record<string, { loss: string; normalisation: string }>> = {
  grpo: { loss: "clipped", normalisation: "sequence" },
  bnpo: { loss: "clipped", normalisation: "batch-token" },
  dapo: { loss: "clipped", normalisation: "batch-token" },
  dr_grpo: { loss: "clipped", normalisation: "constant" },
  cispo: { loss: "cispo", normalisation: "batch-token" },
  sapo: { loss: "sapo", normalisation: "sequence" },
  luspo: { loss: "clipped", normalisation: "rollout-sum" },
};

const scalings: ReadonlyMap<unknown, string> = new Map<unknown, string>([
  ["group", "grpo_sample"],
  [true, "grpo_sample"],
  ["batch", "batch"],
  ["none", "dr_grpo"],
  [false, "dr_grpo"],
]);

const adamw = new Set(["adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw"]);

/** The optimiser updates that TRL makes per generation, all of them over all of its rollouts if this is a whole number of passes. */
const slices = (fields: Fields): number =>
  numberOf(fields["steps_per_generation"] ?? fields["gradient_accumulation_steps"]) /
  numberOf(fields["gradient_accumulation_steps"]);

const isCispo = (fields: Fields): boolean => fields["loss_type"] === "cispo";

/** What TRL does with null in fields whose default is another value. Python takes null for false where a field is a boolean. */
const nulls: Readonly<Record<string, string>> = {
  temperature: "TRL divides the logits by the temperature, so its own training stops at null",
  top_p: "it leaves top_p to the model's generation_config.json, and without a value there to 1",
  top_k:
    "it leaves top_k to the model's generation_config.json, and without a value there to transformers' 50. For no cut write 0",
  repetition_penalty: "it leaves the penalty to the model's generation_config.json. For none write 1",
  max_completion_length: "TRL then generates up to the model's own limit; here an answer has a bound",
  beta: "TRL multiplies the KL by beta, so its own training stops at null. For no penalty write 0",
};

/** Fields whose null is translated by their own rule, or changes nothing of what is learnt. */
const nullable = new Set(["max_grad_norm", "eval_strategy", "save_strategy"]);
/** Fields in which Infinity says that there is no bound. */
const unbounded = new Set(["max_grad_norm", "epsilon_high", "delta", "off_policy_mask_threshold"]);

/** Why a field's value cannot be translated whatever the others are; null if it can. */
export function unusable(field: string, { absent }: FieldRule, value: unknown): string | null {
  if (typeof value === "number" && !Number.isFinite(value)) {
    if (value > 0 && unbounded.has(field)) return null;
    return `${shown(value)} is no number to train with`;
  }
  if (value !== null || absent === null || typeof absent === "boolean" || nullable.has(field)) return null;
  return `null: ${nulls[field] ?? `TRL has no meaning for it; its default is ${shown(absent)}`}`;
}

/** Fields that the rules of others read. */
export const readBeside: ReadonlySet<string> = new Set([
  "activation_checkpointing",
  "eval_steps",
  "save_steps",
  "warmup_ratio",
]);

export const fieldRules: Readonly<Record<string, FieldRule>> = {
  // The batch. TRL counts rollouts, and cuts a generation into optimiser steps.
  num_generations: direct(8, "train.rolloutsPerPrompt"),
  generation_batch_size: {
    absent: null,
    translate(value, fields) {
      const device = numberOf(fields["per_device_train_batch_size"]);
      const steps = numberOf(fields["steps_per_generation"] ?? fields["gradient_accumulation_steps"]);
      const rollouts = value === null ? device * steps : numberOf(value);
      const prompts = rollouts / numberOf(fields["num_generations"]);
      if (!Number.isInteger(prompts) || prompts < 1)
        return {
          refused: { why: `${rollouts} rollouts are no whole number of groups`, unless: "train.promptsPerStep" },
        };
      const devices = rollouts / (device * steps);
      return {
        set: { "train.promptsPerStep": prompts },
        ...(devices > 1 && {
          differs: `${devices} devices shared the ${rollouts} rollouts; here one device has all of them`,
        }),
      };
    },
  },
  per_device_train_batch_size: { absent: 8, translate: () => ({}) },
  gradient_accumulation_steps: {
    absent: 1,
    translate: (value, fields) =>
      numberOf(value) > 1 && (fields["loss_type"] === "bnpo" || numberOf(fields["entropy_coef"]) !== 0)
        ? {
            differs: `TRL averages over each of ${shown(value)} micro-batches, and then over these; here over the whole batch`,
          }
        : {},
  },
  steps_per_generation: {
    absent: null,
    translate: (_, fields) =>
      slices(fields) === 1
        ? {}
        : {
            refused: {
              why:
                `TRL cuts the rollouts of a generation into ${slices(fields)} parts, one per update; here every update takes all ` +
                "of them. Make it equal to gradient_accumulation_steps",
            },
          },
  },
  num_iterations: direct(1, "train.updatesPerBatch"),
  max_steps: {
    absent: -1,
    translate(value, fields) {
      const steps = numberOf(value) / numberOf(fields["num_iterations"]);
      if (!(numberOf(value) > 0))
        return {
          refused: {
            why: "the length is given in epochs (num_train_epochs), and the file does not say how many prompts an epoch has. Give --train.steps",
            unless: "train.steps",
          },
        };
      if (!Number.isInteger(steps))
        return {
          refused: {
            why: `${shown(value)} updates are no whole number of batches with num_iterations ${shown(fields["num_iterations"])}. Give --train.steps`,
            unless: "train.steps",
          },
        };
      return { set: { "train.steps": steps } };
    },
  },
  max_completion_length: direct(512, "train.maxNewTokens"),
  // Sampling.
  temperature: direct(1, "train.temperature"),
  top_p: direct(1, "train.topP"),
  top_k: {
    absent: 0,
    key: "train.topK",
    translate: (value) => ({ set: { "train.topK": Math.max(0, numberOf(value)) } }),
  },
  min_p: only(null, "rollouts can be cut by train.topK and train.topP only", [0]),
  repetition_penalty: only(1, "training samples without penalties"),
  generation_kwargs: only(null, "give sampling as train.temperature, train.topK and train.topP"),
  chat_template_kwargs: only(null, "the model folder's chat template is used as it is"),
  vllm_structured_outputs_regex: only(null, "rollouts cannot be restricted to a pattern"),
  // Rewards and advantages.
  reward_weights: only(null, "the environment gives one reward; weigh its parts there"),
  multi_objective_aggregation: only("sum_then_normalize", "the environment gives one reward"),
  scale_rewards: {
    absent: "group",
    key: "train.advantage",
    translate(value) {
      const advantage = scalings.get(value);
      if (advantage === undefined)
        return { refused: { why: `${shown(value)} is not known`, unless: "train.advantage" } };
      return { set: { "train.advantage": advantage, "train.advantageEpsilon": 1e-4 } };
    },
  },
  // The loss.
  loss_type: {
    absent: "dapo",
    translate(value) {
      const found = typeof value === "string" && Object.hasOwn(lossTypes, value) ? lossTypes[value] : undefined;
      if (found === undefined)
        return { refused: { why: `${shown(value)} is not among the losses (${Object.keys(lossTypes).join(", ")})` } };
      return { set: { "train.loss": found.loss, "train.normalisation": found.normalisation } };
    },
  },
  importance_sampling_level: {
    absent: "token",
    translate: (value) =>
      value === "token" || value === "sequence"
        ? { set: { "train.importanceLevel": value } }
        : { refused: { why: `${shown(value)}: ratios are those of a token or of a sequence` } },
  },
  epsilon: {
    absent: 0.2,
    key: "train.clipLow",
    translate: (value, fields) => (isCispo(fields) ? {} : { set: { "train.clipLow": value } }),
  },
  epsilon_high: {
    absent: null,
    translate: (value, fields) => {
      const key = isCispo(fields) ? "train.ratioCap" : "train.clipHigh";
      if (value === Number.POSITIVE_INFINITY)
        return { set: { [key]: 1e30 }, differs: "no bound is one that no ratio reaches" };
      return { set: { [key]: value ?? fields["epsilon"] } };
    },
  },
  delta: {
    absent: null,
    translate: (value, fields) =>
      isCispo(fields) || value === null
        ? {}
        : { set: { "train.ratioCap": value === Number.POSITIVE_INFINITY ? 0 : value } },
  },
  sapo_temperature_pos: direct(1, "train.sapoPositive"),
  sapo_temperature_neg: direct(1.05, "train.sapoNegative"),
  mask_truncated_completions: {
    absent: false,
    translate: (value) => ({
      set: { "train.maskTruncated": value },
      ...(value === true && {
        differs:
          "with several turns TRL looks at the end of the completion; here a rollout is left out if any answer was cut off",
      }),
    }),
  },
  off_policy_mask_threshold: only(null, "no sequence is dropped by its drift", [Number.POSITIVE_INFINITY]),
  beta: direct(0, "train.klCoefficient"),
  use_bias_correction_kl: {
    absent: true,
    translate: (value, { beta }) => (numberOf(beta) > 0 ? { set: { "train.klTimesRatio": value } } : {}),
  },
  sync_ref_model: {
    absent: false,
    translate: (value, { beta }) =>
      value === true && numberOf(beta) > 0
        ? { refused: { why: "the reference of the KL penalty is the starting model throughout" } }
        : {},
  },
  top_entropy_quantile: direct(1, "train.topEntropyQuantile"),
  entropy_coef: direct(0, "train.entropyCoefficient"),
  use_adaptive_entropy: only(false, "the entropy bonus is constant"),
  // The optimiser.
  optim: {
    absent: "adamw_torch_fused",
    translate: (value) =>
      typeof value === "string" && adamw.has(value)
        ? {}
        : { refused: { why: `${shown(value)}: the optimiser is AdamW. Say adamw_torch to train with it` } },
  },
  optim_args: only(null, "AdamW has its settings in train.*"),
  optim_target_modules: only(null, "AdamW updates every tensor"),
  learning_rate: direct(1e-6, "train.learningRate"),
  adam_beta1: direct(0.9, "train.beta1"),
  adam_beta2: direct(0.999, "train.beta2"),
  adam_epsilon: direct(1e-8, "train.epsilon"),
  weight_decay: {
    absent: 0,
    key: "train.weightDecay",
    translate: (value) => ({
      set: { "train.weightDecay": value },
      ...(numberOf(value) > 0 && {
        differs: "transformers leaves biases and norms out of weight decay; here it applies to every tensor",
      }),
    }),
  },
  max_grad_norm: {
    absent: 1,
    translate: (value) =>
      numberOf(value ?? 0) > 0 && value !== Number.POSITIVE_INFINITY
        ? { set: { "train.maxGradientNorm": value } }
        : { set: { "train.maxGradientNorm": 1e30 }, differs: "no clipping is a bound that no gradient reaches" },
  },
  lr_scheduler_type: { absent: "linear", key: "train.schedule", translate: schedule },
  lr_scheduler_kwargs: { absent: null, translate: () => ({}) }, // with lr_scheduler_type
  warmup_steps: {
    absent: 0,
    key: "train.warmupSteps",
    translate: (value, fields) => {
      const ratio = fields["warmup_ratio"] ?? 0;
      const isRatio = !(numberOf(value) > 0) && numberOf(ratio) > 0;
      const steps = isRatio ? ratio : value;
      if (fields["lr_scheduler_type"] !== "constant")
        return { set: { "train.warmupSteps": steps }, ...(isRatio && { from: "warmup_ratio" }) };
      return numberOf(steps) > 0
        ? {
            differs: `${isRatio ? `warmup_ratio ${shown(ratio)}: ` : ""}lr_scheduler_type "constant" has no warm-up, in transformers neither`,
          }
        : {};
    },
  },
  neftune_noise_alpha: only(null, "no noise is added to embeddings"),
  gradient_checkpointing: { absent: true, translate: recompute },
  bf16: {
    absent: null,
    translate: (value, { fp16 }) =>
      value === false
        ? {}
        : fp16 === true
          ? {}
          : { differs: "TRL computes in bfloat16; here everything is float32 (train.precision)" },
  },
  fp16: {
    absent: false,
    translate: (value) =>
      value === true
        ? { differs: "TRL computes in float16; here everything is float32, or mixed (train.precision)" }
        : {},
  },
  // Randomness.
  seed: {
    absent: 42,
    key: "train.seed",
    translate: (value) => ({
      set: { "train.seed": value },
      differs: "the same seed draws other prompts and other tokens than PyTorch's generator",
    }),
  },
  data_seed: {
    absent: null,
    translate: (value) => (value === null ? {} : { set: { "train.episodeSeed": value } }),
  },
  // Evaluation and checkpoints, which change nothing of what is learnt.
  eval_strategy: { absent: "no", translate: evaluations },
  save_strategy: { absent: "steps", translate: checkpoints },
  output_dir: { absent: null, translate: () => ({ differs: "the run folder is --out, not TRL's folder" }) },
};

function recompute(value: unknown, fields: Fields): Translated {
  const also = fields["activation_checkpointing"];
  return { set: { "batch.recompute": typeof also === "boolean" ? also : value === true } };
}

/** The schedule with its keywords, under transformers' names. */
function schedule(value: unknown, fields: Fields): Translated {
  const words = fields["lr_scheduler_kwargs"];
  const given: Record<string, unknown> = typeof words === "object" && words !== null ? { ...words } : {};
  const take = (name: string, otherwise: number): number => {
    const found = given[name] ?? otherwise;
    delete given[name];
    return numberOf(found);
  };
  const rate = numberOf(fields["learning_rate"]);
  const set: Record<string, unknown> = { "train.schedule": value === "cosine_with_min_lr" ? "cosine" : value };
  switch (value) {
    case "constant":
    case "constant_with_warmup":
    case "linear":
    case "inverse_sqrt":
      break;
    case "cosine":
      if (take("num_cycles", 0.5) !== 0.5)
        return { refused: { why: '"cosine" with num_cycles other than 0.5 is not here' } };
      break;
    case "cosine_with_min_lr":
      set["train.floorShare"] = "min_lr" in given ? take("min_lr", 0) / rate : take("min_lr_rate", 0);
      break;
    case "cosine_with_restarts":
      set["train.scheduleCycles"] = take("num_cycles", 1);
      break;
    case "polynomial":
      set["train.schedulePower"] = take("power", 1);
      set["train.floorShare"] = take("lr_end", 1e-7) / rate;
      break;
    default:
      return { refused: { why: `${shown(value)} is not among the schedules`, unless: "train.schedule" } };
  }
  const left = Object.keys(given);
  if (left.length > 0)
    return { refused: { why: `lr_scheduler_kwargs ${left.join(", ")} with ${shown(value)} is not here` } };
  return { set };
}

/** eval_steps and save_steps below 1 are a share of all steps, rounded up. */
const ofAll = (steps: unknown, fields: Fields): unknown =>
  numberOf(steps) > 0 && numberOf(steps) < 1 && numberOf(fields["max_steps"]) > 0
    ? Math.ceil(numberOf(fields["max_steps"]) * numberOf(steps))
    : steps;

/** In batches, from a number of optimiser steps. */
const batches = (steps: unknown, fields: Fields): number =>
  Math.max(1, Math.round(numberOf(steps) / numberOf(fields["num_iterations"])));

/** What to say if a number of optimiser steps is no whole number of batches; else empty. */
const rounding = (name: string, steps: unknown, fields: Fields): string =>
  batches(steps, fields) * numberOf(fields["num_iterations"]) === numberOf(steps)
    ? ""
    : `; ${name} ${shown(steps)} counts updates, of which a batch has ${shown(fields["num_iterations"])}: rounded to ${batches(steps, fields)} batches`;

function evaluations(value: unknown, fields: Fields): Translated {
  const steps = ofAll(fields["eval_steps"] ?? fields["logging_steps"], fields);
  if (value === "steps" && numberOf(steps) >= 1)
    return {
      set: { "evaluate.every": batches(steps, fields) },
      differs: `the starting model and the last step are evaluated too${rounding("eval_steps", steps, fields)}`,
    };
  if (value === "no")
    return numberOf(fields["max_steps"]) > 0
      ? {
          set: { "evaluate.every": batches(fields["max_steps"], fields) },
          differs: "the starting model and the last step are evaluated all the same (evaluate.episodes)",
        }
      : {};
  return { differs: `${shown(value)} is no number of steps: evaluate.every keeps its value` };
}

function checkpoints(value: unknown, fields: Fields): Translated {
  const last = numberOf(fields["max_steps"]) > 0 ? batches(fields["max_steps"], fields) : null;
  if (last === null) return { differs: "without max_steps the kept steps are not known: set train.checkpoints" };
  const steps = ofAll(fields["save_steps"], fields);
  const isEvery = value === "steps" && numberOf(steps) >= 1;
  const every = isEvery ? batches(steps, fields) : last;
  const kept = [0];
  for (let step = every; step < last; step += every) kept.push(step);
  return {
    set: { "train.checkpoints": [...kept, last], "train.resumeEvery": Math.min(every, last) },
    differs:
      "the starting model and the last step are kept too, and no checkpoint is deleted later (save_total_limit)" +
      (isEvery ? rounding("save_steps", steps, fields) : ""),
  };
}

// Names of other trainers: each is answered with a setting that exists, or with the reason why there is none.
import { match, not, ok } from "uvu/assert";
import { readFlags, readToml, resolveSettings } from "../../engine/host/index.ts";
import { studySettings } from "../../landscape/settings.ts";
import { answerToOtherNames, otherNames } from "../../rl/other-names.ts";
import { describe, throwsMessage } from "../support.ts";

/** Fields of TRL's GRPOConfig and of TrainingArguments that people set, as they are written there. */
const grpoConfig =
  "beta epsilon epsilon_high delta num_generations num_generations_eval learning_rate per_device_train_batch_size " +
  "per_device_eval_batch_size gradient_accumulation_steps generation_batch_size steps_per_generation temperature top_p top_k " +
  "min_p repetition_penalty max_completion_length max_prompt_length num_iterations loss_type scale_rewards " +
  "importance_sampling_level reward_weights multi_objective_aggregation mask_truncated_completions shuffle_dataset " +
  "sync_ref_model ref_model_mixup_alpha ref_model_sync_steps top_entropy_quantile disable_dropout off_policy_mask_threshold " +
  "use_vllm vllm_mode vllm_gpu_memory_utilization vllm_importance_sampling_correction lr_scheduler_type warmup_ratio " +
  "warmup_steps weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm optim bf16 fp16 gradient_checkpointing seed " +
  "data_seed max_steps num_train_epochs save_steps save_strategy save_total_limit eval_steps eval_strategy logging_steps " +
  "log_completions report_to output_dir run_name deepspeed fsdp chat_template_kwargs generation_kwargs model_init_kwargs";

/** Of verl (actor_rollout_ref.actor.…, algorithm.…, trainer.…) and of prime-rl. */
const others =
  "clip_ratio clip_ratio_low clip_ratio_high clip_ratio_c kl_loss_coef use_kl_loss kl_loss_type kl_coef entropy_coeff " +
  "ppo_epochs ppo_mini_batch_size ppo_micro_batch_size_per_gpu ppo_max_token_len_per_gpu loss_agg_mode adv_estimator " +
  "norm_adv_by_std_in_grpo use_kl_in_reward lr lr_warmup_steps_ratio train_batch_size max_response_length total_epochs " +
  "total_training_steps save_freq test_freq default_local_dir n_gpus_per_node nnodes gpu_memory_utilization train_files " +
  "rollouts_per_example batch_size max_steps seq_len max_async_level token_mask_low token_mask_high kl_tau betas1 betas2 " +
  "max_norm max_tokens num_examples interval wandb";

describe("landscape/other-names", (test) => {
  for (const [program, names] of [
    ["TRL", grpoConfig],
    ["verl and prime-rl", others],
  ])
    test(`${program}: every name has an answer, whatever its section`, () => {
      for (const name of names.split(" ")) {
        const answer = answerToOtherNames(name);
        ok(answer !== null, name);
        for (const key of [`train.${name}`, `actor.optim.${name}`]) ok(answerToOtherNames(key) === answer, key);
        match(answer, /^(there is none[,:] |here it is )/, name);
      }
    });

  test("an answer names only settings that there are, and no setting of ours is in the table under its own key", () => {
    const keys = new Set(studySettings.byKey.keys());
    const sections = [...new Set([...keys].filter((key) => key.includes(".")).map((key) => key.split(".")[0]))];
    const named = new RegExp(`\\b(?:${sections.join("|")})\\.[A-Za-z][\\w-]*(?:\\.[A-Za-z]\\w*)*`, "g");
    let count = 0;
    for (const name of otherNames)
      for (const [key] of (answerToOtherNames(name) ?? "").replaceAll(/docs\/\S+/g, "").matchAll(named)) {
        ok(keys.has(key), `${name}: ${key} is no setting`);
        count++;
      }
    ok(count > 60, `${count} keys were looked at`);
  });

  test("in a file and as a flag: no hint that leads astray", async () => {
    const problem = (text: string): Promise<Error> =>
      throwsMessage(
        () => resolveSettings(studySettings, [readToml(studySettings, text, "own.toml")]),
        "own.toml, line 1",
      );
    const beta = await problem("train.beta = 0.04");
    match(beta.message, "unknown setting train.beta (own.toml, line 1); here it is train.klCoefficient");
    const repetition = await problem("train.repetitionPenalty = 1.1");
    match(repetition.message, "; there is none, because training, evaluation and landscape sample without penalties");
    not.match(repetition.message, "did you mean");
    const [flag] = readFlags(studySettings, [], ["--num_generations", "8"]).source.problems;
    match(flag, "unknown flag --num_generations; here it is train.rolloutsPerPrompt");
    match((await problem("train.step = 3")).message, "did you mean train.steps?");
  });
});

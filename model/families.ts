// The registered model families, by the `model_type` in config.json. A new family is a file like qwen2.ts and one line
// here; from outside the program, it is a call of `registerModelFamily` before the first model is opened
// (docs/extending/model-family.md).
import { CheckpointError } from "../engine/host/index.ts";
import type { LanguageModel, ModelFamily } from "./language-model.ts";
import { qwen2 } from "./qwen2.ts";

const families = new Map<string, ModelFamily>([[qwen2.modelType, qwen2]]);

/** Registers a family under its `model_type`. @throws Error when another family has that name */
export function registerModelFamily(family: ModelFamily): void {
  const known = families.get(family.modelType);
  if (known !== undefined && known !== family)
    throw new Error(`registerModelFamily: a family named "${family.modelType}" exists already. Choose another name.`);
  families.set(family.modelType, family);
}

/**
 * config.json with the keys that other programs expect of its family. @throws CheckpointError as `openLanguageModel`
 */
export function completeConfig(
  configJson: Readonly<Record<string, unknown>>,
  where: string,
): Readonly<Record<string, unknown>> {
  const { modelType } = openLanguageModel(configJson, where);
  return families.get(modelType)?.complete?.(configJson, where) ?? configJson;
}

/**
 * The model that a config.json describes.
 * @param where  the file's path, for messages
 * @throws CheckpointError when no family is registered for its `model_type`, or the family refuses the file
 */
export function openLanguageModel(configJson: unknown, where: string): LanguageModel {
  const isObject = typeof configJson === "object" && configJson !== null;
  const modelType: unknown = isObject && "model_type" in configJson ? configJson.model_type : undefined;
  const family = typeof modelType === "string" ? families.get(modelType) : undefined;
  if (family !== undefined) return family.open(configJson, where);
  // A Llama is read as a Qwen2 before it comes here (llama.ts).
  const known = [...families.keys(), "llama"].map((name) => JSON.stringify(name)).join(" or ");
  throw new CheckpointError(
    `${where}: model_type: expected ${known}, got ${modelType === undefined ? "nothing" : JSON.stringify(modelType)}. ` +
      "No other kind of model is supported.",
  );
}

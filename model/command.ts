// What the commands of this floor have in common: where the model is, what computes, and opening both.
import { backendSettings, integer, type Progress, text } from "../engine/host/index.ts";
import { openBackend } from "../engine/index.ts";
import { type LoadedModel, loadModel } from "./weights.ts";

export const modelCommandSettings = {
  model: text({
    default: "",
    meaning: "the model: a folder in Hugging Face's layout, or ORG/NAME or ORG/NAME@REVISION of its hub",
  }),
  ...backendSettings,
  "pass-tokens": integer({
    default: 4096,
    min: 1,
    unit: "tokens",
    meaning: "tokens in one pass of the model; what is longer goes alone",
  }),
} as const;

/** Loads the model of a command, and says what it computes on. */
export async function openModel(
  folder: string,
  values: { backend: "auto" | "webgpu" | "cpu"; adapter: string },
  progress: Progress,
): Promise<LoadedModel> {
  const { backend, fasterHint } = await openBackend({ backend: values.backend, adapter: values.adapter });
  progress.line(`Adapter: ${backend.description}${fasterHint === null ? "" : `. ${fasterHint}`}`);
  return loadModel(backend, folder);
}

/** What is wrong with a command's --model, as a settings' check says it. */
export function modelProblems(model: string): string[] {
  return model === ""
    ? ["model is missing (--model DIR): a folder in Hugging Face's layout, or ORG/NAME of its hub"]
    : [];
}

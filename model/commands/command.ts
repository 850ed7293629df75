// Common to generate and score: the settings for model and adapter, and opening both.
import { backendSettings, boolean, choice, integer, type Progress, text } from "../../engine/host/index.ts";
import { adapterLine, type Backend, openBackend } from "../../engine/index.ts";
import { describePlan, type MemoryPlan } from "../plan.ts";
import { type InferenceModel, loadForInference } from "../weights.ts";

export const modelCommandSettings = {
  model: text({
    default: "",
    meaning: "the model: a folder in Hugging Face's layout, or ORG/NAME or ORG/NAME@REVISION on its hub",
  }),
  ...backendSettings,
  "pass-tokens": integer({
    default: 4096,
    min: 1,
    unit: "tokens",
    meaning: "maximum tokens per forward pass; a longer sequence runs by itself",
  }),
  precision: choice({
    default: "f32",
    options: ["f32", "f16"],
    meaning:
      "number format of matrices, KV cache and what they are multiplied with; sums and probabilities are f32 always " +
      "(docs/precision.md)",
  }),
  "dry-run": boolean({ default: false, meaning: "print how much memory is needed, by part, and stop" }),
} as const;

/**
 * Loads the model of a command and prints which adapter is used. First it checks that the command fits into memory.
 * @param plan  computes the command's memory on the backend; throws if it does not fit
 * @returns     null with --dry-run: the plan has been printed, and the command is done
 */
export async function openModel(
  folder: string,
  values: {
    backend: "auto" | "webgpu" | "cpu";
    adapter: string;
    tune: "auto" | "on" | "off";
    precision: "f32" | "f16";
    "dry-run": boolean;
  },
  progress: Progress,
  plan: (backend: Backend) => Promise<MemoryPlan>,
): Promise<InferenceModel | null> {
  const opened = await openBackend({
    backend: values.backend,
    adapter: values.adapter,
    tune: values.tune,
  });
  const { backend } = opened;
  progress.line(adapterLine(opened));
  const planned = await plan(backend);
  if (!values["dry-run"])
    return loadForInference(backend, folder, values.precision, { note: (line) => progress.line(line) });
  process.stdout.write(`Memory: ${describePlan(planned)}\n`);
  return null;
}

/** The problems with a command's --model, in the form that a settings check returns. */
export function modelProblems(model: string): string[] {
  return model === ""
    ? ["model is missing (--model DIR): a folder in Hugging Face's layout, or ORG/NAME on its hub"]
    : [];
}

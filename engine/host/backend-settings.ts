// What computes, as every command lets its user choose it.
import { choice, text } from "./settings.ts";

/** Free, as are the paths of files: a run folder's provenance.json holds the adapter, and later commands to what it says. */
export const backendSettings = {
  backend: choice({
    default: "auto",
    options: ["auto", "webgpu", "cpu"],
    changes: "free",
    meaning: "what computes: WebGPU where there is an adapter, or plain TypeScript",
  }),
  adapter: text({
    default: "auto",
    changes: "free",
    meaning: "which adapter: auto, hardware, lavapipe, swiftshader, or a part of its name",
  }),
  tune: choice({
    default: "auto",
    options: ["auto", "on", "off"],
    changes: "free",
    meaning: "measure which matrix kernels are fastest on this adapter, once, and remember it; auto: on GPUs only",
  }),
} as const;

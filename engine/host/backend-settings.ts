// What computes, as every command lets its user choose it.
import { choice, text } from "./settings.ts";

/**
 * Free, as are file paths: a run folder's provenance.json records the adapter, and later commands are compared with it.
 */
export const backendSettings = {
  backend: choice({
    default: "auto",
    options: ["auto", "webgpu", "cpu"],
    changes: "free",
    meaning: "what computes: webgpu, cpu (plain TypeScript, slow), or auto: WebGPU if there is an adapter",
  }),
  adapter: text({
    default: "auto",
    changes: "free",
    meaning: "WebGPU adapter: auto, hardware, lavapipe, swiftshader, or part of an adapter's name",
  }),
  tune: choice({
    default: "auto",
    options: ["auto", "on", "off"],
    changes: "free",
    meaning: "measure once which matrix kernels are fastest on this adapter, and remember it; auto: on GPUs only",
  }),
} as const;

// What the opener of an environment gets beside its settings.
import type { Progress } from "../../engine/host/index.ts";
import type { FetchOptions } from "../../model/index.ts";

/** What an environment may use while it opens. */
export interface OpenContext {
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
  /** True for a plan: nothing may be downloaded. */
  readonly isDryRun?: boolean;
  /** Where the hub and its cache are; default as the environment variables say. */
  readonly hub?: Pick<FetchOptions, "environment" | "retryMs">;
}

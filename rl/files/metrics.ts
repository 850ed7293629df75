// Reads metrics.jsonl for the report and the comparison (rl/metrics-file.ts writes it).
import { z } from "zod";
import { FileError, type OnDamage, readText } from "../../engine/host/index.ts";

const row = z.object({
  step: z.int(),
  reward: z.number().nullish(),
  entropy: z.number().nullish(),
  frac_reward_zero_std: z.number().nullish(),
  "completions/truncated_share": z.number().nullish(),
  "completions/mean_length": z.number().nullish(),
  grad_norm: z.number().nullish(),
  "ratio/max": z.number().nullish(),
  "mismatch_kl/mean": z.number().nullish(),
  "eval/reward": z.number().nullish(),
  "eval/reward_standard_error": z.number().nullish(),
  "completions/failed": z.number().nullish(),
  "eval/completions/failed": z.number().nullish(),
});
/** The metrics of one step that are drawn; other fields are ignored. */
export type MetricsRow = z.infer<typeof row>;

/**
 * Reads a run's metrics. Does not change the file.
 * @param onDamage  called when an interrupted write left an incomplete last line, or when there is no line
 * @throws FileError when another line is not a record, or when the step decreases
 */
export function readMetrics(path: string, onDamage: OnDamage): MetricsRow[] {
  const lines = readText(path).split("\n");
  const cut = lines.pop() ?? "";
  if (cut !== "")
    onDamage(`${path}: its last line was cut (${Buffer.byteLength(cut)} bytes without an end). It is left out.`);
  if (lines.length === 0) onDamage(`${path}: holds no record.`);
  let last = 0;
  return lines.map((line, index) => {
    const found = parse(line);
    if (found === null || found.step < last)
      throw new FileError(
        `${path}: line ${index + 1}: expected a record {"step": …} of step ${last} or later, got ` +
          `${JSON.stringify(line.slice(0, 60))}. Restore the file from a copy; or delete the line, and the curves lack that step.`,
      );
    last = found.step;
    return found;
  });
}

function parse(line: string): MetricsRow | null {
  try {
    return row.safeParse(JSON.parse(line)).data ?? null;
  } catch {
    return null;
  }
}

// docs/smollm2.md: the curve was measured once, and its first three steps again since then, by a build that adds gradients up in
// another order. They must still be the curve's: the same rollouts and rewards, and figures that differ by rounding alone.
import { readFileSync } from "node:fs";
import * as assert from "uvu/assert";
import { describe } from "../support.ts";

type Metrics = Readonly<Record<string, number>>;

function metricsOf(name: string): Map<number, Metrics> {
  const text = readFileSync(new URL(`../../docs/examples/${name}`, import.meta.url), "utf8");
  const records = text
    .trim()
    .split("\n")
    .map((line): Metrics => JSON.parse(line));
  return new Map(records.map((record) => [record["step"], record]));
}

describe("landscape/smollm2 curve", (test) => {
  test("the first steps as they were measured last are those of the curve", () => {
    const curve = metricsOf("names.metrics.jsonl");
    const last = metricsOf("names.first-steps.metrics.jsonl");
    assert.equal([...last.keys()], [0, 1, 2, 3]);
    for (const step of [1, 2, 3]) {
      const [then, now] = [curve.get(step) ?? {}, last.get(step) ?? {}];
      for (const key of ["reward", "reward_std", "num_tokens", "completions/mean_length", "learning_rate"]) {
        assert.ok(Number.isFinite(now[key]), `step ${step}: ${key}`);
        assert.is(now[key], then[key], `step ${step}: ${key}`);
      }
      for (const [key, most] of [
        ["loss", 1e-12],
        ["entropy", 1e-6],
        ["grad_norm", 1e-5],
      ] as const)
        assert.ok(Math.abs(now[key] / then[key] - 1) <= most, `step ${step}: ${key}: ${now[key]}, then ${then[key]}`);
    }
  });
});

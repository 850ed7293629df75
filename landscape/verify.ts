// Recomputes grid points of a run, here or on another machine, and says how far they differ:
//
//   node landscape/verify.ts runs/tiny --cells 5
import { backendSettings, defineSettings, integer, runCommand, texts } from "../engine/host/index.ts";
import { batchSettings } from "../rl/index.ts";
import { type CellComparison, isRight, verifyCells } from "./measure/verify-cells.ts";

const elsewhere =
  "The run was made on another driver or by another version, so bits may differ. The limit is a choice: what is within it changes " +
  "no conclusion about the map; it proves neither side right or wrong";

await runCommand({
  name: "node landscape/verify.ts",
  summary:
    "Recomputes some grid points of a run and compares them with its files: bit by bit on the adapter, driver and version that made " +
    "the run; elsewhere by R, J and KL, each of which may differ by one standard error over prompts. Exit code 1: one differs more.",
  settings: defineSettings({
    cells: integer({ default: 5, min: 1, unit: "cells", meaning: "grid points to recompute, drawn at random" }),
    seed: integer({ default: 0, min: 0, meaning: "random seed of the choice" }),
    cell: texts({
      default: [],
      meaning:
        "recompute these grid points instead: i:j in every map, STEP/SLICE/i:j in one; several with commas between",
    }),
    ...backendSettings,
    batch: batchSettings,
  }),
  positional: [{ name: "RUN", meaning: "the run folder, which is not changed", required: true }],
  examples: [["node landscape/verify.ts runs/tiny --cells 5", "five random grid points of all maps"]],
  main: async ({ values, positionals: [folder], progress, signal }) => {
    const { cell: named, ...options } = values;
    const { cells, expectsSameBits } = await verifyCells(folder, { ...options, named }, progress, signal);
    for (const cell of cells) process.stdout.write(`${textOf(cell, expectsSameBits)}\n`);
    const wrong = cells.filter((cell) => !isRight(cell, expectsSameBits)).length;
    process.stdout.write(
      `${cells.length - wrong} of ${cells.length} cells ${expectsSameBits ? "have the same bits" : `have R, J and KL within one standard error over prompts. ${elsewhere}`}.\n`,
    );
    return wrong === 0 ? 0 : 1;
  },
});

function textOf(cell: CellComparison, expectsSameBits: boolean): string {
  const { step, slice, i, j, key, isSameBits, quantities } = cell;
  const name = `step ${step}, slice ${slice}, cell (${i}, ${j}), key ${key.slice(0, 12)}`;
  if (isSameBits) return `${name}: the same bits`;
  const parts = quantities.map(
    ({ name: quantity, stored, recomputed, standardError }) =>
      `${quantity} ${stored} and ${recomputed}, difference ${(recomputed - stored).toExponential(2)} (standard error ${standardError.toExponential(2)})`,
  );
  const verdict = expectsSameBits ? "OTHER BITS" : "BEYOND ONE STANDARD ERROR";
  return `${name}: ${isRight(cell, expectsSameBits) ? "within one standard error" : verdict}: ${parts.join("; ")}`;
}

// Settings that differ, rewards and correlations of several runs side by side, as Markdown. Reads run folders; needs no GPU.
//
//   node landscape/compare.ts runs/tiny-100 runs/tiny-101 runs/tiny-102
import { compareCommand } from "./report/compare.ts";

await compareCommand();

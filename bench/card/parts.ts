// The parts of bench/card.ts, and how its time is divided among them.
import { adamw } from "./adamw.ts";
import { attention } from "./attention.ts";
import { ceilings } from "./ceilings.ts";
import { head } from "./head.ts";
import { landscape } from "./landscape.ts";
import type { PartOf } from "./part.ts";
import { products } from "./products.ts";
import type { PartName } from "./results.ts";
import { decode, gpt2Medium, training } from "./whole-model.ts";

export interface PlannedPart {
  meaning: string;
  /** Its share of the time, in parts of the sum of all that run. Time that a part leaves goes to the next ones. */
  weight: number;
  /** null: it does not run on a backend of ours. */
  cases: PartOf | null;
}

export const parts: Readonly<Record<PartName, PlannedPart>> = {
  check: { meaning: "adapter, driver, features, matrix shapes; start-up check", weight: 25, cases: null },
  ceilings: { meaning: "the rates of a copy and of the largest products", weight: 30, cases: ceilings },
  products: { meaning: "matrix products, f32 and f16, at the model's shapes", weight: 100, cases: products },
  attention: { meaning: "attention forward, backward, decoding", weight: 35, cases: attention },
  head: { meaning: "the head with log-softmax: forward, backward, KL", weight: 35, cases: head },
  adamw: { meaning: "one optimiser step over all parameters", weight: 30, cases: adamw },
  decode: { meaning: "decode steps of a random model", weight: 45, cases: decode },
  training: { meaning: "training steps of a random model", weight: 50, cases: training },
  landscape: { meaning: "one perturbed grid point beside an unperturbed evaluation", weight: 35, cases: landscape },
  "gpt2-medium": { meaning: "training steps at the shape of GPT-2 Medium", weight: 30, cases: gpt2Medium },
  peers: { meaning: "the same shapes in PyTorch and transformers, where Python has them", weight: 65, cases: null },
};

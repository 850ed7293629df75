// A model whose answers hardly ever begin alike, and never end before they are cut off: those that memory plans expect.
import type { ParameterArena } from "../engine/index.ts";
import type { Chat, LanguageModel } from "../model/index.ts";
import { stopIdsOf } from "../rl/rollout.ts";
import { normals } from "./engine/normals.ts";

/** Fills weights with normal numbers; the embedding, which is also the head, is 0 for tokens that end an answer. */
export function fillAtRandom(weights: ParameterArena, config: LanguageModel, chat: Chat): void {
  weights.names.forEach((name, i) => {
    const isNorm = name.endsWith("norm.weight");
    const { size, rowSize } = weights.value(name);
    const isHead = name === config.headName();
    const values = normals(i + 1, size, isNorm ? 0 : isHead ? 0.2 : 0.1, isNorm ? 1 : 0);
    if (isHead) for (const id of stopIdsOf({ config }, chat)) values.fill(0, id * rowSize, (id + 1) * rowSize);
    weights.load(name, values);
  });
  weights.refreshCopies();
}

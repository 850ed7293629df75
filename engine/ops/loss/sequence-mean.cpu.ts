import type { NumberArray } from "../../dtype.ts";

/** Over the tokens of this cell: its first one is token `tokensStart` of the batch. */
export function sequenceMeans(
  { x, starts, lengths, means }: { x: NumberArray; starts: NumberArray; lengths: NumberArray; means: NumberArray },
  params: { sequences: number; tokens: number; tokensStart: number; addToMeans: number },
): void {
  const { sequences, tokens, tokensStart, addToMeans } = params;
  for (let s = 0; s < sequences; s++) {
    let sum = 0;
    const from = Math.max(starts[s], tokensStart);
    const to = Math.min(starts[s] + lengths[s], tokensStart + tokens);
    for (let t = from; t < to; t++) sum += x[t - tokensStart];
    means[s] = (addToMeans ? means[s] : 0) + (lengths[s] === 0 ? 0 : sum / lengths[s]);
  }
}

/** Over the sequences of this cell. */
export function spreadMeans(
  { means, sequenceOf, y }: { means: NumberArray; sequenceOf: NumberArray; y: NumberArray },
  params: { tokens: number; sequences: number; sequencesStart: number; addToY: number },
): void {
  const { tokens, sequences, sequencesStart, addToY } = params;
  for (let t = 0; t < tokens; t++) {
    const s = sequenceOf[t] - sequencesStart;
    y[t] = (addToY ? y[t] : 0) + (s >= 0 && s < sequences ? means[s] : 0);
  }
}

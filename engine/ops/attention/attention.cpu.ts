import type { NumberArray } from "../../dtype.ts";
import { roundedToHalf } from "../matmul/half.cpu.ts";

interface Heads {
  heads: number;
  keyHeads: number;
  headSize: number;
}

/** Calls `body` for each key that a token sees, in order, if its slot lies in from … end − 1. */
function forEachSlot(spans: NumberArray, token: number, from: number, end: number, body: (slot: number) => void): void {
  const [prefixStart, prefixLength, ownStart, length] = spans.subarray(4 * token, 4 * token + 4);
  for (let j = 0; j < length; j++) {
    const slot = j < prefixLength ? prefixStart + j : ownStart + (j - prefixLength);
    if (slot >= from && slot < end) body(slot);
  }
}

function dot(a: NumberArray, aStart: number, b: NumberArray, bStart: number, length: number): number {
  let sum = 0;
  for (let d = 0; d < length; d++) sum += a[aStart + d] * b[bStart + d];
  return sum;
}

export function attention(
  b: Record<"q" | "keys" | "values" | "spans" | "y" | "logSumExp" | "sums", NumberArray>,
  p: Heads & { tokens: number; slots: number; slotsStart: number; slotsTotal: number; scale: number },
): void {
  const { heads: H, keyHeads: K, headSize: D } = p;
  const end = p.slotsStart + p.slots;
  for (let token = 0; token < p.tokens; token++)
    for (let head = 0; head < H; head++) {
      const at = token * H + head;
      const continues = p.slotsStart > 0;
      let highest = continues ? b.logSumExp[at] : Number.NEGATIVE_INFINITY;
      let sum = continues ? b.sums[at] : 0;
      const mixed = continues ? Float64Array.from(b.y.subarray(at * D, (at + 1) * D)) : new Float64Array(D);
      forEachSlot(b.spans, token, p.slotsStart, end, (slot) => {
        const key = ((slot - p.slotsStart) * K + Math.floor((head * K) / H)) * D;
        const score = p.scale * dot(b.q, at * D, b.keys, key, D);
        const before = highest;
        highest = Math.max(highest, score);
        const factor = Math.exp(before - highest);
        const weight = Math.exp(score - highest);
        sum = sum * factor + weight;
        for (let d = 0; d < D; d++) mixed[d] = mixed[d] * factor + weight * b.values[key + d];
      });
      const isLast = end === p.slotsTotal;
      const divisor = isLast && sum !== 0 ? sum : 1;
      for (let d = 0; d < D; d++) b.y[at * D + d] = mixed[d] / divisor;
      b.logSumExp[at] = isLast ? highest + Math.log(sum) : highest;
      b.sums[at] = sum;
    }
}

export function attentionStatistics(
  b: Record<"y" | "dy" | "logSumExp" | "statistics", NumberArray>,
  { tokens, heads, headSize: D }: Heads & { tokens: number },
): void {
  for (let at = 0; at < tokens * heads; at++) {
    b.statistics[2 * at] = b.logSumExp[at];
    b.statistics[2 * at + 1] = dot(b.y, at * D, b.dy, at * D, D);
  }
}

export function attentionBackwardQuery(
  b: Record<"q" | "keys" | "values" | "dy" | "statistics" | "spans" | "dq", NumberArray>,
  p: Heads & { tokens: number; slots: number; slotsStart: number; scale: number; addToDq: number },
): void {
  const { heads: H, keyHeads: K, headSize: D } = p;
  for (let token = 0; token < p.tokens; token++)
    for (let head = 0; head < H; head++) {
      const at = token * H + head;
      const gradient = p.addToDq ? Float64Array.from(b.dq.subarray(at * D, (at + 1) * D)) : new Float64Array(D);
      forEachSlot(b.spans, token, p.slotsStart, p.slotsStart + p.slots, (slot) => {
        const key = ((slot - p.slotsStart) * K + Math.floor((head * K) / H)) * D;
        const weight = Math.exp(p.scale * dot(b.q, at * D, b.keys, key, D) - b.statistics[2 * at]);
        const dScore = weight * (dot(b.dy, at * D, b.values, key, D) - b.statistics[2 * at + 1]);
        for (let d = 0; d < D; d++) gradient[d] += p.scale * dScore * b.keys[key + d];
      });
      b.dq.set(gradient, at * D);
    }
}

export function attentionBackwardKey(
  b: Record<"q" | "keys" | "values" | "dy" | "statistics" | "querySpans" | "dKeys" | "dValues", NumberArray>,
  p: Heads & { slots: number; tokens: number; tokensStart: number; scale: number } & {
    addToDKeys: number;
    addToDValues: number;
  },
): void {
  const { heads: H, keyHeads: K, headSize: D } = p;
  for (let slot = 0; slot < p.slots; slot++) {
    const first = Math.max(b.querySpans[2 * slot] - p.tokensStart, 0);
    const end = Math.min(b.querySpans[2 * slot] + b.querySpans[2 * slot + 1] - p.tokensStart, p.tokens);
    for (let keyHead = 0; keyHead < K; keyHead++) {
      const key = (slot * K + keyHead) * D;
      const dKey = p.addToDKeys ? Float64Array.from(b.dKeys.subarray(key, key + D)) : new Float64Array(D);
      const dValue = p.addToDValues ? Float64Array.from(b.dValues.subarray(key, key + D)) : new Float64Array(D);
      for (let token = first; token < end; token++)
        for (let head = 0; head < H; head++) {
          if (Math.floor((head * K) / H) !== keyHead) continue;
          const at = token * H + head;
          const weight = Math.exp(p.scale * dot(b.q, at * D, b.keys, key, D) - b.statistics[2 * at]);
          const dScore = weight * (dot(b.dy, at * D, b.values, key, D) - b.statistics[2 * at + 1]);
          for (let d = 0; d < D; d++) {
            dKey[d] += p.scale * dScore * b.q[at * D + d];
            dValue[d] += weight * b.dy[at * D + d];
          }
        }
      b.dKeys.set(dKey, key);
      b.dValues.set(dValue, key);
    }
  }
}

/** attention with y rounded to f16, for a single cell of slots */
export function attentionToHalf(...[b, p]: Parameters<typeof attention>): void {
  attention(b, p);
  for (let i = 0; i < p.tokens * p.heads * p.headSize; i++) b.y[i] = roundedToHalf(b.y[i]);
}

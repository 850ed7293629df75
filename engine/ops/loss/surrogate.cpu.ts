import type { NumberArray } from "../../dtype.ts";

interface Params {
  rows: number;
  dropOutside: number;
  low: number;
  high: number;
  hasReference: number;
}

export function surrogate(
  {
    logProbs,
    oldLogProbs,
    advantages,
    referenceLogProbs,
    objective,
    ratio,
    penalty,
  }: {
    logProbs: NumberArray;
    oldLogProbs: NumberArray;
    advantages: NumberArray;
    referenceLogProbs: NumberArray;
    objective: NumberArray;
    ratio: NumberArray;
    penalty: NumberArray;
  },
  { rows, dropOutside, low, high, hasReference }: Params,
): void {
  for (let i = 0; i < rows; i++) {
    const rho = Math.exp(logProbs[i] - oldLogProbs[i]);
    const A = advantages[i];
    ratio[i] = rho;
    if (dropOutside) objective[i] = rho < low || rho > high ? 0 : rho * A * logProbs[i];
    else objective[i] = Math.min(rho * A, Math.min(Math.max(rho, low), high) * A);
    const d = referenceLogProbs[i] - logProbs[i];
    penalty[i] = hasReference ? Math.expm1(d) - d : 0;
  }
}

export function surrogateBackward(
  {
    logProbs,
    advantages,
    weights,
    referenceLogProbs,
    ratio,
    dLoss,
    dLogProbs,
  }: {
    logProbs: NumberArray;
    advantages: NumberArray;
    weights: NumberArray;
    referenceLogProbs: NumberArray;
    ratio: NumberArray;
    dLoss: NumberArray;
    dLogProbs: NumberArray;
  },
  {
    rows,
    dropOutside,
    low,
    high,
    hasReference,
    klCoefficient,
    addToDLogProbs,
  }: Params & { klCoefficient: number; addToDLogProbs: number },
): void {
  for (let i = 0; i < rows; i++) {
    let slope = 0;
    if (weights[i] !== 0) {
      const rho = ratio[i];
      const A = advantages[i];
      const isInside = rho >= low && rho <= high ? 1 : 0;
      let share = isInside;
      if (!dropOutside) {
        const plain = rho * A;
        const clipped = Math.min(Math.max(rho, low), high) * A;
        // d min/dρ: if both arguments are equal, each counts half; the clipped one depends on ρ only inside the bounds.
        if (plain < clipped) share = 1;
        else if (plain === clipped) share = 0.5 + 0.5 * isInside;
      }
      // A ratio that overflowed and is clipped has gradient 0; a NaN in ratio or advantage stays NaN.
      slope = share === 0 && !Number.isNaN(rho) && !Number.isNaN(A) ? 0 : -share * rho * A;
      if (hasReference) slope -= klCoefficient * Math.expm1(referenceLogProbs[i] - logProbs[i]);
    }
    dLogProbs[i] = (addToDLogProbs ? dLogProbs[i] : 0) + dLoss[0] * weights[i] * slope;
  }
}

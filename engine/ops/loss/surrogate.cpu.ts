import type { NumberArray } from "../../dtype.ts";

/** Values of the param `form`. */
export const clippedForm = 0;
export const maskedForm = 1;
export const cappedForm = 2;
export const softForm = 3;

/** Values of the param `routes`: which parts of the gradient are computed. */
export const bothRoutes = 0;
export const directRoute = 1;
export const ratioRoute = 2;

/** 1 / (1 + e^−x). */
function gate(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

interface Params {
  rows: number;
  form: number;
  low: number;
  high: number;
  /** 0: none. */
  cap: number;
  hasReference: number;
  penaltyTimesRatio: number;
}

export function surrogate(
  {
    logProbs,
    ratioSource,
    advantages,
    referenceLogProbs,
    objective,
    ratio,
    penalty,
  }: {
    logProbs: NumberArray;
    ratioSource: NumberArray;
    advantages: NumberArray;
    referenceLogProbs: NumberArray;
    objective: NumberArray;
    ratio: NumberArray;
    penalty: NumberArray;
  },
  { rows, form, low, high, cap, hasReference, penaltyTimesRatio, hasLogRatios }: Params & { hasLogRatios: number },
): void {
  for (let i = 0; i < rows; i++) {
    const rho = Math.exp(hasLogRatios ? ratioSource[i] : logProbs[i] - ratioSource[i]);
    const capped = cap === 0 ? rho : Math.min(rho, cap);
    const A = advantages[i];
    ratio[i] = rho;
    if (form === clippedForm) objective[i] = Math.min(capped * A, Math.min(Math.max(rho, low), high) * A);
    else if (form === maskedForm) objective[i] = rho < low || rho > high ? 0 : rho * A * logProbs[i];
    else if (form === cappedForm) objective[i] = capped * A * logProbs[i];
    else {
      const temperature = A > 0 ? high : low;
      objective[i] = (4 / temperature) * gate(temperature * (rho - 1)) * A;
    }
    const d = referenceLogProbs[i] - logProbs[i];
    penalty[i] = hasReference ? (penaltyTimesRatio ? rho : 1) * (Math.expm1(d) - d) : 0;
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
    form,
    low,
    high,
    cap,
    hasReference,
    penaltyTimesRatio,
    klCoefficient,
    routes,
    addToDLogProbs,
  }: Params & { klCoefficient: number; routes: number; addToDLogProbs: number },
): void {
  for (let i = 0; i < rows; i++) {
    let slope = 0;
    if (weights[i] !== 0) {
      const rho = ratio[i];
      const A = advantages[i];
      const capped = cap === 0 ? rho : Math.min(rho, cap);
      const isInside = rho >= low && rho <= high ? 1 : 0;
      let factor = isInside * rho;
      let isZero = !isInside;
      if (form === clippedForm) {
        const plain = capped * A;
        const clipped = Math.min(Math.max(rho, low), high) * A;
        const isUncapped = capped === rho ? 1 : 0;
        // d min/dρ: if both arguments are equal, each counts half. The clipped one depends on ρ only inside the bounds,
        // the other only up to the cap.
        let share = isInside;
        if (plain < clipped) share = isUncapped;
        else if (plain === clipped) share = 0.5 * isUncapped + 0.5 * isInside;
        factor = share * rho;
        isZero = share === 0;
      } else if (form === cappedForm) {
        factor = capped;
        isZero = false;
      } else if (form === softForm) {
        const x = (A > 0 ? high : low) * (rho - 1);
        const slopeOfGate = 4 * gate(x) * gate(-x);
        factor = slopeOfGate * rho;
        isZero = slopeOfGate === 0;
      }
      // The clipped and the soft form depend on the log-probabilities through the ratio only, the others on them alone.
      const ownRoute = form === clippedForm || form === softForm ? ratioRoute : directRoute;
      // A ratio that overflowed and is clipped has gradient 0; a NaN in ratio or advantage stays NaN.
      if (routes === bothRoutes || routes === ownRoute)
        slope = isZero && !Number.isNaN(rho) && !Number.isNaN(A) ? 0 : -factor * A;
      if (hasReference) {
        const d = referenceLogProbs[i] - logProbs[i];
        const by = penaltyTimesRatio ? rho : 1;
        if (routes !== ratioRoute) slope -= klCoefficient * by * Math.expm1(d);
        if (routes !== directRoute && penaltyTimesRatio) slope += klCoefficient * rho * (Math.expm1(d) - d);
      }
    }
    dLogProbs[i] = (addToDLogProbs ? dLogProbs[i] : 0) + dLoss[0] * weights[i] * slope;
  }
}

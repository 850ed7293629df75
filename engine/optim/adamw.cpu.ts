import type { NumberArray } from "../dtype.ts";

export function sumOfSquares(
  { x, sums }: { x: NumberArray; sums: NumberArray },
  { size, chunk, firstChunk }: { size: number; chunk: number; firstChunk: number },
): void {
  for (let start = 0; start < size; start += chunk) {
    let sum = 0;
    for (let i = start; i < Math.min(start + chunk, size); i++) sum += x[i] * x[i];
    sums[firstChunk + start / chunk] = sum;
  }
}

export function clipFactor(
  { sums, losses, control }: { sums: NumberArray; losses: NumberArray; control: NumberArray },
  {
    chunks,
    lossCount,
    maxGradientNorm,
    unscale,
  }: { chunks: number; lossCount: number; maxGradientNorm: number; unscale: number },
): void {
  let squared = 0;
  for (let i = 0; i < chunks; i++) squared += sums[i];
  let finite = Number.isFinite(squared);
  for (let i = 0; i < lossCount; i++) if (!Number.isFinite(losses[i])) finite = false;
  const norm = Math.sqrt(squared) * unscale;
  control[0] = Math.min(1, maxGradientNorm / (norm + 1e-6)) * unscale;
  control[1] = norm;
  control[2] = finite ? 1 : 0;
}

interface AdamwParams {
  size: number;
  decay: number;
  beta1: number;
  oneMinusBeta1: number;
  beta2: number;
  oneMinusBeta2: number;
  stepSize: number;
  rootCorrection: number;
  epsilon: number;
}

export function adamw(
  {
    value,
    moment1,
    moment2,
    gradient,
    control,
  }: { value: NumberArray; moment1: NumberArray; moment2: NumberArray; gradient: NumberArray; control: NumberArray },
  { size, decay, beta1, oneMinusBeta1, beta2, oneMinusBeta2, stepSize, rootCorrection, epsilon }: AdamwParams,
): void {
  if (control[2] === 0) return;
  for (let i = 0; i < size; i++) {
    const g = control[0] * gradient[i];
    const m = beta1 * moment1[i] + oneMinusBeta1 * g;
    const v = beta2 * moment2[i] + oneMinusBeta2 * g * g;
    moment1[i] = m;
    moment2[i] = v;
    value[i] = value[i] * decay - (stepSize * m) / (Math.sqrt(v) / rootCorrection + epsilon);
  }
}

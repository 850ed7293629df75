// The highest rates on this adapter, measured instead of read from a data sheet: the rate at which a buffer is copied,
// and that of the fastest of our matrix products. A case is compared with the ceiling that it comes closer to, since
// that one limits it: bytes for a norm, multiplications for a matrix product.
//
// The matmul ceiling is that of our own kernels: the rate that the rest of a training step could reach, not the limit
// of the machine. For that, bench/peers compares with other libraries.

/** Rates that no case here exceeds by much, and the cases that set them. */
export interface Ceilings {
  copyGigabytesPerSecond: number;
  copyCase: string;
  matmulGflopsPerSecond: number;
  matmulCase: string;
}

export interface Share {
  /** 1 is the ceiling. A case whose data stay in a cache can exceed the ceiling of copying. */
  share: number;
  of: "copy" | "matmul";
}

/** The fields of a result that `shareOf` needs. */
export interface Rates {
  gflopsPerSecond: number;
  gigabytesPerSecond: number;
}

/** The larger of a result's two shares, and the name of its ceiling. */
export function shareOf(result: Rates, ceilings: Ceilings): Share {
  const ofCopy = result.gigabytesPerSecond / ceilings.copyGigabytesPerSecond;
  const ofMatmul = result.gflopsPerSecond / ceilings.matmulGflopsPerSecond;
  return ofMatmul >= ofCopy ? { share: ofMatmul, of: "matmul" } : { share: ofCopy, of: "copy" };
}

/**
 * The ceilings that measured cases set.
 * @param copies, products  at least one result each
 */
export function ceilingsOf(
  copies: readonly (Rates & { name: string })[],
  products: readonly (Rates & { name: string })[],
): Ceilings {
  const copy = copies.reduce((best, one) => (one.gigabytesPerSecond > best.gigabytesPerSecond ? one : best));
  const product = products.reduce((best, one) => (one.gflopsPerSecond > best.gflopsPerSecond ? one : best));
  return {
    copyGigabytesPerSecond: copy.gigabytesPerSecond,
    copyCase: copy.name,
    matmulGflopsPerSecond: product.gflopsPerSecond,
    matmulCase: product.name,
  };
}

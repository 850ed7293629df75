// What a kernel could reach at best on this adapter, measured and not read from a data sheet: how fast a buffer is copied and
// how fast the best of our matrix products multiplies. A case's share is of the ceiling that it comes closer to, since that
// is the one which holds it back: bytes for a norm, multiplications for a matrix product.
//
// The matmul ceiling is that of our own kernels. It says what the rest of a training step could have, not what the machine
// could do; for that, bench/peers compares with others.

/** Rates that nothing here goes above by much, and the cases that set them. */
export interface Ceilings {
  copyGigabytesPerSecond: number;
  copyCase: string;
  matmulGflopsPerSecond: number;
  matmulCase: string;
}

export interface Share {
  /** 1 is the ceiling. A case whose data stay in a cache can pass that of copying. */
  share: number;
  of: "copy" | "matmul";
}

/** What `shareOf` needs of a result. */
export interface Rates {
  gflopsPerSecond: number;
  gigabytesPerSecond: number;
}

/** The larger of a result's two shares, and of which ceiling it is. */
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

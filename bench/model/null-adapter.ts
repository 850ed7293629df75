// Dawn's null adapter runs no kernel: with it a bench times what the host does.
import type { Backend } from "../../engine/index.ts";

/**
 * Makes every read give ones. Nothing is computed, so what is read would be whatever was in memory; 1 is a valid token and a
 * finite number.
 */
export function readOnes(backend: Backend): void {
  const read = backend.read.bind(backend);
  backend.read = async (ranges) => (await read(ranges)).map((values) => values.fill(1));
}

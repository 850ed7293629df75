// Reads the tensors of the fixtures. `model/` has a reader with full checks, but a test of the engine should not depend
// on `model/`.
import { readFileSync } from "node:fs";
import { fixturePath } from "./support.ts";

export interface FixtureTensor {
  shape: number[];
  /** f32 and f64 as stored; integers as numbers. */
  values: Float64Array | Float32Array;
}

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** All tensors of a .safetensors fixture (F32 and F64). */
export function readSafetensorsFixture(name: string): Map<string, FixtureTensor> {
  const bytes = readFileSync(fixturePath(name));
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerLength).toString("utf8")) as Record<string, HeaderEntry>;
  const tensors = new Map<string, FixtureTensor>();
  for (const [
    tensor,
    {
      dtype,
      shape,
      data_offsets: [from, to],
    },
  ] of Object.entries(header)) {
    if (tensor === "__metadata__") continue;
    const own = new Uint8Array(bytes.subarray(8 + headerLength + from, 8 + headerLength + to)).buffer;
    if (dtype === "F64") tensors.set(tensor, { shape, values: new Float64Array(own) });
    else if (dtype === "F32") tensors.set(tensor, { shape, values: new Float32Array(own) });
    else throw new Error(`${name}: ${tensor}: fixtures hold F32 and F64, this is ${dtype}`);
  }
  return tensors;
}

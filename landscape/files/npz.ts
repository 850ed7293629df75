// NumPy's .npz: a zip archive of .npy files, stored without compression, as `numpy.savez` writes it.
import { crc32 } from "node:zlib";

/** An array in row-major order. Its type follows from its values: float64, int64, or (bytes of 0 and 1) booleans. */
export interface NamedArray {
  readonly name: string;
  /** [] for a single number. */
  readonly shape: readonly number[];
  readonly values: Float64Array | BigInt64Array | Uint8Array;
}

/** NumPy's name of the element type, little-endian. */
function descriptionOf(values: NamedArray["values"]): string {
  if (values instanceof Float64Array) return "<f8";
  return values instanceof BigInt64Array ? "<i8" : "|b1";
}

/** The values as they are in memory; every machine that Node runs WebGPU on is little-endian. */
export function bytesOf(values: NamedArray["values"]): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

/** A .npy file of format version 1.0; the header is padded to a multiple of 64 bytes. */
function npyBytes({ shape, values }: NamedArray): Buffer {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${descriptionOf(values)}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const head = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, length & 255, length >> 8]);
  return Buffer.concat([head, Buffer.from(`${text.padEnd(length - 1)}\n`, "latin1"), bytesOf(values)]);
}

/** The bytes of an .npz file. The same arrays give the same bytes: every member has the date 1980-01-01. */
export function npzBytes(arrays: readonly NamedArray[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const array of arrays) {
    const name = Buffer.from(`${array.name}.npy`);
    const content = npyBytes(array);
    // What the local header and the directory share: version 2.0, flags, stored, time, date, CRC, sizes, name length, extra.
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(20, 0);
    shared.writeUInt16LE(0x21, 8);
    shared.writeUInt32LE(crc32(content), 10);
    shared.writeUInt32LE(content.length, 14);
    shared.writeUInt32LE(content.length, 18);
    shared.writeUInt16LE(name.length, 22);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    const local = [Buffer.from("PK\x03\x04", "latin1"), shared, name, content];
    parts.push(...local);
    directory.push(Buffer.from("PK\x01\x02\x14\x00", "latin1"), shared, place, name);
    offset += local.reduce((sum, part) => sum + part.length, 0);
  }
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(arrays.length, 8);
  end.writeUInt16LE(arrays.length, 10);
  end.writeUInt32LE(
    directory.reduce((sum, part) => sum + part.length, 0),
    12,
  );
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}

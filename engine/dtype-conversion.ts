// Conversion between numbers and their forms in files and 16-bit buffers. Widening (f16, bf16 → f32) is exact.
// Narrowing rounds to the nearest, ties to even, as the IEEE default and every GPU do. So a checkpoint written from f32
// and read again equals what hardware would have stored.
//
// The arithmetic works on bit patterns: Node 22.18 has neither Float16Array nor Math.f16round, and only integers keep a
// NaN's payload. Bytes are little-endian, as in safetensors and on every machine that Dawn supports.

export const storedDtypes = [
  "f64",
  "f32",
  "f16",
  "bf16",
  "i64",
  "i32",
  "i16",
  "i8",
  "u64",
  "u32",
  "u16",
  "u8",
  "bool",
] as const;
/** How a number is stored in a file. `bool` is one byte: 0 is false, anything else true. */
export type StoredDtype = (typeof storedDtypes)[number];

/** The typed array that holds a dtype in memory: 16-bit floats become f32, booleans become bytes of 0 and 1. */
export interface DecodedArrays {
  f64: Float64Array;
  f32: Float32Array;
  f16: Float32Array;
  bf16: Float32Array;
  i64: BigInt64Array;
  i32: Int32Array;
  i16: Int16Array;
  i8: Int8Array;
  u64: BigUint64Array;
  u32: Uint32Array;
  u16: Uint16Array;
  u8: Uint8Array;
  bool: Uint8Array;
}
export type DecodedArray = DecodedArrays[StoredDtype];

/** Bytes of one stored element. */
export const storedBytes: Readonly<Record<StoredDtype, number>> = {
  f64: 8,
  f32: 4,
  f16: 2,
  bf16: 2,
  i64: 8,
  i32: 4,
  i16: 2,
  i8: 1,
  u64: 8,
  u32: 4,
  u16: 2,
  u8: 1,
  bool: 1,
};

// One element, accessible as a float and as its bits.
const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

function bitsOfF32(x: number): number {
  float[0] = x;
  return word[0];
}

function f32OfBits(bits: number): number {
  word[0] = bits;
  return float[0];
}

// f16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. f32: 1, 8 (bias 127), 23.
function widenF16(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // Subnormal, mantissa · 2⁻²⁴: shift the leading one up to bit 10, where f32 keeps it implicit.
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

function narrowToF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) {
    const payload = (magnitude >>> 13) & 0x3ff;
    return sign | 0x7c00 | (payload === 0 ? 0x200 : payload);
  }
  // 65520 lies midway between the largest f16, 65504, and the next power of two: from there on numbers become infinite.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    // Normal in f16: move the bias, then round off 13 bits. A carry runs into the exponent, as it should.
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  // Below 2⁻¹⁴ the result counts units of 2⁻²⁴. Up to half a unit (shift 24 and more) the tie goes to 0.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const floor = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (floor + (rest > half || (rest === half && (floor & 1) === 1) ? 1 : 0));
}

function narrowToBf16(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) {
    // Cutting a NaN's payload could give an infinity; then its first bit is set.
    const high = bits >>> 16;
    return (high & 0x7f) === 0 ? high | 0x40 : high;
  }
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The number whose f16 bits these are. Exact. */
export function f16ToF32(bits: number): number {
  return f32OfBits(widenF16(bits));
}

/**
 * Bits of the f16 nearest to the f32 number `x`, ties to even; from 65520 on infinity. A finer `x` is rounded to f32
 * first.
 */
export function f32ToF16(x: number): number {
  return narrowToF16(bitsOfF32(x));
}

/** The number whose bf16 bits these are: the upper half of an f32. Exact. */
export function bf16ToF32(bits: number): number {
  return f32OfBits(bits << 16);
}

/** Bits of the bf16 nearest to the f32 number `x`, ties to even. A finer `x` is rounded to f32 first. */
export function f32ToBf16(x: number): number {
  return narrowToBf16(bitsOfF32(x));
}

// A typed array can only begin at a multiple of its element size: other bytes are copied first.
type View<A> = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => A;
function view<A>(array: View<A>, size: number, bytes: Uint8Array): A {
  if (bytes.byteLength % size !== 0)
    throw new RangeError(`expected a multiple of ${size} bytes, got ${bytes.byteLength}`);
  const source = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new array(source.buffer, source.byteOffset, bytes.byteLength / size);
}

function widen(bytes: Uint8Array, bitsOf: (bits: number) => number): Float32Array {
  const from = view(Uint16Array, 2, bytes);
  const to = new Uint32Array(from.length);
  for (let i = 0; i < from.length; i++) to[i] = bitsOf(from[i]);
  return new Float32Array(to.buffer);
}

function narrow(values: Float32Array, bitsOf: (bits: number) => number): Uint8Array {
  const from = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const to = new Uint16Array(from.length);
  for (let i = 0; i < from.length; i++) to[i] = bitsOf(from[i]);
  return new Uint8Array(to.buffer);
}

const isTrue = (byte: number) => (byte === 0 ? 0 : 1);
const decoders: { [D in StoredDtype]: (bytes: Uint8Array) => DecodedArrays[D] } = {
  f64: (bytes) => view(Float64Array, 8, bytes),
  f32: (bytes) => view(Float32Array, 4, bytes),
  f16: (bytes) => widen(bytes, widenF16),
  bf16: (bytes) => widen(bytes, (bits) => bits << 16),
  i64: (bytes) => view(BigInt64Array, 8, bytes),
  i32: (bytes) => view(Int32Array, 4, bytes),
  i16: (bytes) => view(Int16Array, 2, bytes),
  i8: (bytes) => view(Int8Array, 1, bytes),
  u64: (bytes) => view(BigUint64Array, 8, bytes),
  u32: (bytes) => view(Uint32Array, 4, bytes),
  u16: (bytes) => view(Uint16Array, 2, bytes),
  u8: (bytes) => bytes,
  bool: (bytes) => bytes.map(isTrue),
};

/**
 * Stored bytes as numbers. If nothing has to be converted and the bytes are aligned, the array shares their memory.
 * @param bytes little-endian, a whole number of elements
 * @throws RangeError if the length is no multiple of the element's size
 */
export function decode<D extends StoredDtype>(dtype: D, bytes: Uint8Array): DecodedArrays[D] {
  return decoders[dtype](bytes);
}

/**
 * Numbers as stored bytes, the reverse of `decode`: f32 values are narrowed to f16 and bf16, all others keep their
 * bits. The result shares the memory of `values` if nothing has to be converted.
 */
export function encode<D extends StoredDtype>(dtype: D, values: DecodedArrays[D]): Uint8Array {
  return encoders[dtype](values);
}

const bytesOf = (values: ArrayBufferView) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
const encoders: { [D in StoredDtype]: (values: DecodedArrays[D]) => Uint8Array } = {
  f64: bytesOf,
  f32: bytesOf,
  f16: (values) => narrow(values, narrowToF16),
  bf16: (values) => narrow(values, narrowToBf16),
  i64: bytesOf,
  i32: bytesOf,
  i16: bytesOf,
  i8: bytesOf,
  u64: bytesOf,
  u32: bytesOf,
  u16: bytesOf,
  u8: bytesOf,
  bool: (values) => values.map(isTrue),
};

// Reads and writes the safetensors format: 8 bytes with the header's length, a JSON header with the dtype, shape and
// byte range of each tensor, then the data. https://github.com/huggingface/safetensors#format
//
// Checkpoints come from many sources, and a wrong byte range gives wrong numbers without any error. So the whole header
// is checked before any data is used: no tensor is listed twice, sizes are exact beyond 2⁵³, and the ranges cover the
// data without gaps, overlaps or unused bytes. Tensors are then read from disk one at a time, or piece by piece.
//
// Every file that the official library accepts is accepted, except for
// 1. any name listed twice (the library keeps the last tensor of a name),
// 2. 8-bit, 6-bit and 4-bit floats and complex numbers, which no code here can use,
// 3. a size beyond 2⁵³, even if another dimension is 0.
import { type FileHandle, open } from "node:fs/promises";
import { asError, CheckpointError, writeAtomicFrom } from "../engine/host/index.ts";
import { type DecodedArray, decode, encode, type StoredDtype, storedBytes, storedDtypes } from "../engine/index.ts";
import { parseStrictJson, type StrictJson } from "./strict-json.ts";

/** Dtype, shape and location of a tensor; `byteOffset` counts from the start of the file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: StoredDtype;
  readonly shape: readonly number[];
  readonly byteOffset: number;
  readonly byteLength: number;
}

const maximumHeaderBytes = 100_000_000; // the official library's limit
const chunkBytes = 1 << 24;

// The first bytes of other files that often have the name of a checkpoint.
const webPage = "This is a web page, not the file: download it again.";
const pickle = "This is a Python pickle: convert it to safetensors.";
const mistakenFor: [string, string][] = [
  ["version https://git-lfs", "This is a Git LFS pointer, not the file: run `git lfs pull`, or download it again."],
  ["<!DOCTYPE", webPage],
  ["<!doctype", webPage],
  ["<html", webPage],
  ["PK\x03\x04", "This is a PyTorch checkpoint: convert it to safetensors."],
  ["\x80\x02}", pickle],
  ["\x80\x02\x8a", pickle],
  ["\x80\x04\x95", pickle],
  ["\x1f\x8b\x08", "This is compressed by gzip: unpack it."],
];

/** An open safetensors file with a valid header (checked). Tensors are in the order of their data. */
export class SafetensorsFile {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #handle: FileHandle;

  constructor(path: string, handle: FileHandle, header: Header) {
    this.path = path;
    this.#handle = handle;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /** @throws CheckpointError when there is no such tensor */
  entry(name: string): TensorEntry {
    const entry = this.tensors.get(name);
    if (entry === undefined)
      throw new CheckpointError(`${this.path}: expected a tensor "${name}", the file has no tensor of that name.`);
    return entry;
  }

  /** A tensor's numbers; f16 and bf16 are widened to f32. */
  async readTensor(name: string): Promise<DecodedArray> {
    const { dtype, byteLength } = this.entry(name);
    return decode(dtype, await this.#read(name, 0, byteLength));
  }

  /**
   * A tensor piece by piece, so that memory holds one piece at a time.
   * @param elements maximum elements per piece (default: 16 MiB of the file)
   */
  async *readChunks(name: string, elements?: number): AsyncGenerator<{ start: number; data: DecodedArray }> {
    const { dtype, byteLength } = this.entry(name);
    const size = storedBytes[dtype];
    const step = (elements ?? chunkBytes / size) * size;
    for (let at = 0; at < byteLength; at += step)
      yield { start: at / size, data: decode(dtype, await this.#read(name, at, Math.min(step, byteLength - at))) };
  }

  /**
   * A tensor of floats as f32: exact for f32, f16 and bf16, rounded to the nearest for f64.
   * @throws CheckpointError when the tensor holds integers
   */
  async readFloat32(name: string): Promise<Float32Array> {
    const data = await this.readTensor(name);
    if (data instanceof Float32Array) return data;
    return Float32Array.from(this.#floats(name, data));
  }

  /** A tensor of floats as f64, exact. @throws CheckpointError when the tensor holds integers */
  async readFloat64(name: string): Promise<Float64Array> {
    const data = await this.readTensor(name);
    return data instanceof Float64Array ? data : Float64Array.from(this.#floats(name, data));
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  #floats(name: string, data: DecodedArray): Float32Array | Float64Array {
    if (data instanceof Float32Array || data instanceof Float64Array) return data;
    throw new CheckpointError(`${this.path}: "${name}": expected floats, got ${this.entry(name).dtype}.`);
  }

  async #read(name: string, start: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const read = await readFully(this.#handle, bytes, this.entry(name).byteOffset + start);
    if (read < length)
      throw new CheckpointError(`${this.path}: "${name}": the file became shorter while it was open, and ends inside.`);
    return bytes;
  }
}

// Reads the file from `position` into `bytes`; returns how many bytes were read. A single read call may return fewer
// than asked.
async function readFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(chunkBytes, bytes.length - done), position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/**
 * Opens a file and checks its whole header. The caller closes it.
 * @throws CheckpointError naming file, tensor and fault
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  let handle: FileHandle;
  try {
    handle = await open(path);
  } catch (error) {
    throw new CheckpointError(`${path}: cannot be opened: ${asError(error).message}`, { cause: error });
  }
  try {
    return new SafetensorsFile(path, handle, await readHeader(path, handle));
  } catch (error) {
    await handle.close();
    throw error;
  }
}

interface Header {
  metadata: Map<string, string>;
  tensors: Map<string, TensorEntry>;
}

async function readHeader(path: string, handle: FileHandle): Promise<Header> {
  const { size } = await handle.stat();
  const start = Buffer.alloc(Math.min(size, 32));
  await readFully(handle, start, 0);
  const refuse = (fault: string): never => {
    const text = start.toString("latin1");
    const hint = mistakenFor.find(([beginning]) => text.startsWith(beginning))?.[1];
    throw new CheckpointError(`${path}: ${fault}${hint === undefined ? "" : ` ${hint}`}`);
  };
  if (size < 8) refuse(`expected at least the 8 bytes of the header's length, the file has ${size}. Was it cut short?`);
  const length = start.readBigUInt64LE(0);
  if (length > maximumHeaderBytes || length > size - 8)
    refuse(`expected a header of ${length} bytes, the file has ${size} bytes in all. Was it cut short?`);
  const bytes = Buffer.alloc(Number(length));
  await readFully(handle, bytes, 8);
  let json: StrictJson;
  try {
    json = parseStrictJson(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    return refuse(`the header is not valid JSON: ${asError(error).message}.`);
  }
  return checkHeader(path, json, 8 + bytes.length, size);
}

function checkHeader(path: string, json: StrictJson, dataStart: number, fileBytes: number): Header {
  if (!(json instanceof Map)) throw new CheckpointError(`${path}: expected the header to be a JSON object.`);
  const entries: TensorEntry[] = [];
  for (const [name, value] of json) if (name !== "__metadata__") entries.push(checkEntry(path, name, value, dataStart));

  // An empty tensor may have the same offset as the next tensor; then it is sorted first.
  entries.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const { name, byteOffset, byteLength } of entries) {
    if (byteOffset !== end)
      throw new CheckpointError(
        `${path}: "${name}": expected its data at byte ${end - dataStart}, where the tensor before it ends, got ` +
          `${byteOffset - dataStart}: ${byteOffset > end ? "a hole" : "an overlap"}. The file is damaged.`,
      );
    end += byteLength;
  }
  if (end !== fileBytes)
    throw new CheckpointError(
      `${path}: expected ${end} bytes, as the last tensor's end says, the file has ${fileBytes}. ` +
        (end > fileBytes ? "Was it cut short?" : "The file is damaged."),
    );
  return {
    metadata: checkMetadata(path, json.get("__metadata__") ?? null),
    tensors: new Map(entries.map((entry) => [entry.name, entry])),
  };
}

function checkMetadata(path: string, json: StrictJson): Map<string, string> {
  const metadata = new Map<string, string>();
  if (json === null) return metadata;
  if (!(json instanceof Map)) throw new CheckpointError(`${path}: "__metadata__": expected an object of texts.`);
  for (const [key, value] of json) {
    if (typeof value !== "string")
      throw new CheckpointError(`${path}: "__metadata__": "${key}": expected a text, got ${shown(value)}.`);
    metadata.set(key, value);
  }
  return metadata;
}

function checkEntry(path: string, name: string, json: StrictJson, dataStart: number): TensorEntry {
  const refuse = (fault: string): never => {
    throw new CheckpointError(`${path}: "${name}": ${fault}`);
  };
  if (!(json instanceof Map)) return refuse(`expected {dtype, shape, data_offsets}, got ${shown(json)}.`);

  const written = json.get("dtype");
  const dtype =
    readableDtypes.get(written) ??
    refuse(`dtype: expected one of ${[...readableDtypes.keys()].join(", ")}, got ${shown(written)}.`);

  // A size is accepted only if it is a whole number that a JavaScript number represents exactly.
  const size = (field: string, value: StrictJson): number =>
    typeof value === "bigint" && value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)
      ? Number(value)
      : refuse(`${field}: expected whole numbers from 0 to 2⁵³ − 1, got ${shown(value)}.`);
  const sizes = (field: string): number[] => {
    const value = json.get(field);
    if (!Array.isArray(value)) return refuse(`${field}: expected a list of whole numbers, got ${shown(value)}.`);
    return value.map((item) => size(field, item));
  };
  const shape = sizes("shape");
  let needed = BigInt(storedBytes[dtype]);
  for (const extent of shape) {
    needed *= BigInt(extent);
    size("shape: bytes", needed);
  }
  const offsets = sizes("data_offsets");
  if (offsets.length !== 2) return refuse(`data_offsets: expected a start and an end, got ${offsets.length} numbers.`);
  const [start, end] = offsets;
  if (BigInt(end) - BigInt(start) !== needed)
    return refuse(`expected ${needed} bytes for ${dtype} [${shape}], data_offsets [${offsets}] give ${end - start}.`);
  return { name, dtype, shape, byteOffset: dataStart + start, byteLength: end - start };
}

const readableDtypes: ReadonlyMap<StrictJson | undefined, StoredDtype> = new Map(
  storedDtypes.map((dtype) => [dtype.toUpperCase(), dtype]),
);

function shown(value: StrictJson | undefined): string {
  if (value instanceof Map) return "an object";
  if (Array.isArray(value)) return "a list";
  if (value === undefined) return "nothing";
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** A tensor for `writeSafetensors`. */
export interface TensorToWrite {
  name: string;
  dtype: StoredDtype;
  shape: readonly number[];
  /**
   * The values in the array type of the dtype (f32 for f16 and bf16), or a function called when this tensor is written.
   */
  data: DecodedArray | (() => DecodedArray | Promise<DecodedArray>);
}

/**
 * Writes a file that appears under its name only when it is whole and on disk. The same tensors give the same bytes: wider
 * dtypes come first, so that each tensor is aligned to its element size; tensors of equal width keep their order.
 * @param metadata texts for `__metadata__`, which is left out if there are none; transformers requires `format`
 * @throws CheckpointError when a finite number is beyond the range of f16 or bf16; FileError on a disk error; Error
 *   when data and shape disagree
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<void> {
  const ordered = [...tensors].sort((a, b) => storedBytes[b.dtype] - storedBytes[a.dtype]);
  await writeAtomicFrom(path, partsOf(path, ordered, headerOf(ordered, metadata)));
}

async function* partsOf(
  path: string,
  tensors: readonly TensorToWrite[],
  header: Uint8Array,
): AsyncGenerator<Uint8Array> {
  yield header;
  for (const tensor of tensors) yield* dataOf(path, tensor);
}

function headerOf(tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const names = new Set(["__metadata__"]);
  const members = Object.keys(metadata).length === 0 ? [] : [`"__metadata__":${JSON.stringify(metadata)}`];
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name) || !name.isWellFormed())
      throw new Error(`the tensor name ${JSON.stringify(name)} is reserved, was used before, or is not valid Unicode`);
    names.add(name);
    const start = end;
    end += elementsOf(shape) * storedBytes[dtype];
    const entry = { dtype: dtype.toUpperCase(), shape, data_offsets: [start, end] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const text = new TextEncoder().encode(`{${members.join(",")}}`);
  const bytes = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, " "); // the data starts at a multiple of 8
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8), 0);
  bytes.set(text, 8);
  return bytes;
}

async function* dataOf(path: string, { name, dtype, shape, data }: TensorToWrite): AsyncGenerator<Uint8Array> {
  const values = typeof data === "function" ? await data() : data;
  const fitting = decode(dtype, new Uint8Array(0)).constructor;
  if (values.constructor !== fitting || values.length !== elementsOf(shape))
    throw new Error(
      `"${name}": expected a ${fitting.name} of ${elementsOf(shape)} elements for ${dtype} [${shape}], ` +
        `got a ${values.constructor.name} of ${values.length}`,
    );
  const step = chunkBytes / storedBytes[dtype];
  for (let at = 0; at < values.length; at += step) {
    const piece = values.subarray(at, at + step);
    const bytes = encode(dtype, piece);
    if (dtype === "f16" || dtype === "bf16") refuseOverflow(path, name, dtype, piece, bytes);
    yield bytes;
  }
}

// Infinity has an exponent of all ones and a mantissa of 0: 0x7c00 in f16, 0x7f80 in bf16.
function refuseOverflow(
  path: string,
  name: string,
  dtype: "f16" | "bf16",
  values: DecodedArray,
  bytes: Uint8Array,
): void {
  const infinity = dtype === "f16" ? 0x7c00 : 0x7f80;
  const patterns = new Uint16Array(bytes.buffer, bytes.byteOffset, values.length);
  for (let i = 0; i < patterns.length; i++)
    if ((patterns[i] & 0x7fff) === infinity && Number.isFinite(values[i]))
      throw new CheckpointError(
        `${path}: "${name}": ${values[i]} is beyond the largest ${dtype}. Write ${dtype === "f16" ? "bf16 or f32" : "f32"}.`,
      );
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

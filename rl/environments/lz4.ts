// LZ4 without a frame, as Parquet has it (LZ4_RAW): Node has no LZ4.
//
// A block is a list of sequences: a token with two counts, literal bytes, and a match, which is an earlier place of the output
// and a length. The last sequence has no match. https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md

/** A count of a token is 15 if more bytes follow, up to the first that is not 255. */
const more = 15;
const leastMatch = 4;

/** @throws Error when the block is damaged, or has another length than stated */
export function decompressLz4(block: Uint8Array, outputLength: number): Uint8Array {
  const output = new Uint8Array(outputLength);
  let [at, end] = [0, 0];
  const damaged = (): Error => new Error("its pages are not sound LZ4");
  const byte = (): number => {
    if (at >= block.length) throw damaged();
    return block[at++];
  };
  const count = (of: number): number => {
    if (of < more) return of;
    let total = of;
    for (let next = 255; next === 255; ) {
      next = byte();
      total += next;
    }
    return total;
  };
  while (at < block.length) {
    const token = byte();
    const literals = count(token >> 4);
    if (at + literals > block.length || end + literals > outputLength) throw damaged();
    output.set(block.subarray(at, at + literals), end);
    at += literals;
    end += literals;
    if (at === block.length) break;
    const distance = byte() + 256 * byte();
    const length = count(token & more) + leastMatch;
    if (distance === 0 || distance > end || end + length > outputLength) throw damaged();
    // Byte by byte: a match may reach into what it writes itself.
    for (const stop = end + length; end < stop; end++) output[end] = output[end - distance];
  }
  if (end !== outputLength) throw damaged();
  return output;
}

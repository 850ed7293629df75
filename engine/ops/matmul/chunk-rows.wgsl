// The rows of a sum in chunks (matmul.ts): chunkRows each; or with hasStarts, chunk i has those from starts[i] to starts[i + 1].
struct Chunk {
  index: u32,
  first: u32,     // its rows in this cell, counted from the cell's first row
  end: u32,
  isHere: bool,   // whether this cell writes its sum; the first cell writes those of chunks without rows
  isBegun: bool,  // whether an earlier cell began its sum
}

/** The chunk of the i-th workgroup along the rows: of those that the cell touches; with hasStarts, of all. */
fn chunkOf(i: u32) -> Chunk {
  var chunk: Chunk;
  chunk.index = select(params.rowsStart / params.chunkRows + i, i, params.hasStarts != 0u);
  var begin = chunk.index * params.chunkRows;
  var end = begin + params.chunkRows;
  if (params.hasStarts != 0u) {
    begin = starts[params.startsBase + chunk.index];
    end = starts[params.startsBase + chunk.index + 1u];
  }
  let cellEnd = params.rowsStart + params.rows;
  let first = max(begin, params.rowsStart);
  chunk.first = first - params.rowsStart;
  chunk.end = max(min(end, cellEnd), first) - params.rowsStart;
  chunk.isHere = params.hasStarts == 0u || select(begin < cellEnd && end > params.rowsStart, params.rowsStart == 0u, begin == end);
  chunk.isBegun = params.chunks == 1u || begin < params.rowsStart;
  return chunk;
}

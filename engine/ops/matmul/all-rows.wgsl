// The rows of a workgroup's tile, and where their weight begins: for all rows of a cell and one weight.
struct TileRows {
  first: u32, // row of the cell
  count: u32,
  tile: u32,  // which tile of these rows
  right: u32, // elements from the first weight to theirs
  bias: u32,
}

fn tileRows(tile: u32) -> TileRows { return TileRows(0u, params.rows, tile, 0u, 0u); }

// The rows of a workgroup's tile, and where their weight begins: for rows of several slots, whose tiles a table lists
// (engine/row-tables.ts). TILES: number of its binding.
struct TileRows {
  first: u32, // row of the cell
  count: u32,
  tile: u32,  // which tile of these rows
  right: u32, // elements from the first weight to theirs
  bias: u32,
}

@group(0) @binding(TILES) var<storage, read> tiles: array<u32>;

fn tileRows(tile: u32) -> TileRows {
  let entry = params.tilesBase + 3u * tile;
  let slot = tiles[entry + 2u];
  return TileRows(tiles[entry], tiles[entry + 1u], 0u, slot * params.rightStride, slot * params.biasStride);
}

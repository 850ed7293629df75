// Where the weight of a row begins: that of its slot, from a table with an entry for each row (engine/row-tables.ts). TILES:
// number of its binding.
@group(0) @binding(TILES) var<storage, read> tiles: array<u32>;

fn slotStart(row: u32) -> u32 { return tiles[params.tilesBase + 3u * row + 2u] * params.stride; }

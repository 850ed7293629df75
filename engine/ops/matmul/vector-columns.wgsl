// The columns of a vector tile (vector-tile.wgsl): 32 neighbours.

/** Where the four columns begin that a lane loads. */
fn rightStartOf(p: Product, tile: u32, lane: u32) -> u32 { return rightColumnStart(p, tile * TILE_COLUMNS + 4u * lane); }

fn storeTile(p: Product, row: u32, column: u32, sums: ptr<function, Sums>) {
  for (var i = 0u; i < tileColumns(p, column); i++) {
    if (LEFT_ALONG_STEPS) {
      let at = i / 4u * 16u + i % 4u;
      storeFour(p, row + i % 4u, column + i / 4u * 4u, vec4f((*sums)[at], (*sums)[at + 4u], (*sums)[at + 8u], (*sums)[at + 12u]));
    } else {
      let at = i * 4u;
      storeFour(p, row, column + i, vec4f((*sums)[at], (*sums)[at + 1u], (*sums)[at + 2u], (*sums)[at + 3u]));
    }
  }
}

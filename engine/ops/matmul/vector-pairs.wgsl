// The columns of a vector tile (vector-tile.wgsl) for a gated product: 16 neighbours of the first weight, and the same 16 of the
// second, whose panels follow those of the first. So both sums of a pair are at hand when they are stored.
const PAIRS = TILE_COLUMNS / 2u;

/** Where the four columns begin that a lane loads. */
fn rightStartOf(p: Product, tile: u32, lane: u32) -> u32 {
  return rightColumnStart(p, tile * PAIRS + 4u * (lane % 4u)) + select(0u, p.columns * p.count, lane >= 4u);
}

fn storeTile(p: Product, row: u32, column: u32, sums: ptr<function, Sums>) {
  let first = column / 2u;
  // One loop, not unrolled, as in vector-columns.wgsl.
  for (var i = 0u; i < min(TILE_COLUMNS, 4u * (p.columns - first)) && i < TILE_COLUMNS / 2u; i++) {
    let at = i / 4u * 16u + i % 4u;
    let other = at + 4u * PAIRS;
    storePair(
      p, row + i % 4u, first + i / 4u * 4u,
      vec4f((*sums)[at], (*sums)[at + 4u], (*sums)[at + 8u], (*sums)[at + 12u]),
      vec4f((*sums)[other], (*sums)[other + 4u], (*sums)[other + 8u], (*sums)[other + 12u]),
    );
  }
}

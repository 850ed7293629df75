// Sums of matrix-tile.wgsl, four neighbours of a row at a time: for products that never continue a sum, and whose columns are a
// multiple of four. The kernel stores finished sums (`storeFinished`).
fn startOf(_p: Product, at: vec2u) -> f32 { return columnStart(at.y); }

/** Stores the staged matrices, without what lies past an edge. */
fn storeStaged(p: Product, first: vec2u, down: u32, across: u32, lane: u32) {
  for (var four = lane; four < SUM_FOURS; four += LANES) {
    let at = first + placeOf(4u * four, down, across);
    if (at.x < p.rows && at.y < p.columns) {
      storeFinished(resultPlace(p, at.x, at.y), at.x, at.y, bitcast<vec4f>(staged[four]));
    }
  }
}

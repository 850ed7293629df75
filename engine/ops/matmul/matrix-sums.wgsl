// Sums of matrix-tile.wgsl, one number at a time. The kernel stores a finished sum (`storeFinished`), since it may have more to
// do with it.
fn startOf(p: Product, at: vec2u) -> f32 {
  if (p.continues) { return result[resultPlace(p, min(at.x, p.rows - 1u), min(at.y, p.columns - 1u))]; }
  return columnStart(at.y);
}

/** Stores the staged matrices, without what lies past an edge. */
fn storeStaged(p: Product, first: vec2u, down: u32, across: u32, lane: u32) {
  for (var i = lane; i < 4u * SUM_FOURS; i += LANES) {
    let at = first + placeOf(i, down, across);
    if (at.x < p.rows && at.y < p.columns) {
      storeFinished(resultPlace(p, at.x, at.y), at.x, at.y, bitcast<f32>(staged[i / 4u][i % 4u]));
    }
  }
}

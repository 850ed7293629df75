// Four neighbours of the result in one access: row and column are those of the first. The kernel stores a finished sum
// (`storeFinished`), since it may have more to do with it.
fn storedFour(p: Product, row: u32, column: u32) -> vec4f {
  return result[resultPlace(p, min(row, p.rows - 1u), min(column, p.columns - 1u)) / 4u];
}

fn storeFour(p: Product, row: u32, column: u32, four: vec4f) {
  if (row < p.rows && column < p.columns) { storeFinished(resultPlace(p, row, column), row, column, four); }
}

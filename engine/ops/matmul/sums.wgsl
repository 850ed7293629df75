fn storedSum(p: Product, row: u32, column: u32) -> f32 {
  return result[resultPlace(p, min(row, p.rows - 1u), min(column, p.columns - 1u))];
}

fn storeSum(p: Product, row: u32, column: u32, sum: f32) {
  if (row < p.rows && column < p.columns) { storeFinished(resultPlace(p, row, column), row, column, sum); }
}

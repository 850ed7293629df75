// A cell of a matrix product, as the tiles (…-tile.wgsl) see it:
//   result[i, j] = start(i, j) + Σ_k left[i, k] · right[k, j]
// with one f32 accumulator, k ascending and explicit fma in every tile, so that all tiles give the same bits. Strides describe
// how the operands lie in memory; right comes in panels of eight neighbouring columns. Each kernel fills in its Product.
// Functions that depend on the types read operands and write sums: one number at a time (operands-…, sums), or in fours
// (…-fours) if everything begins and is cut at multiples of four. A load in fours costs at most half as much per element.
struct Product {
  rows: u32,
  columns: u32,
  count: u32,
  leftBase: u32,    // left[i, k]  = left[leftBase + i · leftRow + k · leftStep]
  leftRow: u32,
  leftStep: u32,
  rightBase: u32,   // right[k, j] = right[rightBase + j / 8 · rightPanel + k · rightStep + j % 8]
  rightPanel: u32,
  rightStep: u32,
  resultBase: u32,  // result[i, j] at resultBase + i · resultRow + j · resultColumn
  resultRow: u32,
  resultColumn: u32,
  continues: bool,          // sums start from the stored result;
  startsFromColumns: bool,  // else from columnStart(j), a function of the kernel; else from 0
}

/** Where row `row` of left begins; past the last row the last one again: those sums are not stored. */
fn leftRowStart(p: Product, row: u32) -> u32 {
  return p.leftBase + min(row, p.rows - 1u) * p.leftRow;
}

/** Where column `column` of right begins; past the last panel the last one again: those sums are not stored. */
fn rightColumnStart(p: Product, column: u32) -> u32 {
  return p.rightBase + min(column / 8u, (p.columns - 1u) / 8u) * p.rightPanel + column % 8u;
}

fn resultPlace(p: Product, row: u32, column: u32) -> u32 {
  return p.resultBase + row * p.resultRow + column * p.resultColumn;
}

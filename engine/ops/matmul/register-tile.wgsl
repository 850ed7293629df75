// multiplyTile  the plain tile: each of 8 × 8 invocations sums 4 rows × 4 columns in registers.
// Memory        left is read once per column tile, right once per row tile; neighbours share them through the cache.
// Chosen        if no other tile fits.
const TILE_ROWS = 32u;
const TILE_COLUMNS = 32u;

fn multiplyTile(p: Product, tile: vec2u, lane: u32) {
  let row = tile.x * TILE_ROWS + lane / 8u * 4u;
  let column = tile.y * TILE_COLUMNS + lane % 8u * 4u;
  var left0 = leftRowStart(p, row);
  var left1 = leftRowStart(p, row + 1u);
  var left2 = leftRowStart(p, row + 2u);
  var left3 = leftRowStart(p, row + 3u);
  var at = rightColumnStart(p, column);
  var sum0 = startOfRow(p, row, column);
  var sum1 = startOfRow(p, row + 1u, column);
  var sum2 = startOfRow(p, row + 2u, column);
  var sum3 = startOfRow(p, row + 3u, column);
  for (var k = 0u; k < p.count; k++) {
    let b = vec4f(rightOne(at), rightOne(at + 1u), rightOne(at + 2u), rightOne(at + 3u));
    sum0 = fma(vec4f(leftOne(left0)), b, sum0);
    sum1 = fma(vec4f(leftOne(left1)), b, sum1);
    sum2 = fma(vec4f(leftOne(left2)), b, sum2);
    sum3 = fma(vec4f(leftOne(left3)), b, sum3);
    left0 += p.leftStep;
    left1 += p.leftStep;
    left2 += p.leftStep;
    left3 += p.leftStep;
    at += p.rightStep;
  }
  storeRow(p, row, column, sum0);
  storeRow(p, row + 1u, column, sum1);
  storeRow(p, row + 2u, column, sum2);
  storeRow(p, row + 3u, column, sum3);
}

fn startOfRow(p: Product, row: u32, column: u32) -> vec4f {
  if (p.continues) {
    return vec4f(storedSum(p, row, column), storedSum(p, row, column + 1u), storedSum(p, row, column + 2u), storedSum(p, row, column + 3u));
  }
  if (p.startsFromColumns) {
    return vec4f(columnStart(column), columnStart(column + 1u), columnStart(column + 2u), columnStart(column + 3u));
  }
  return vec4f();
}

fn storeRow(p: Product, row: u32, column: u32, sums: vec4f) {
  for (var j = 0u; j < 4u; j++) { storeSum(p, row, column + j, sums[j]); }
}

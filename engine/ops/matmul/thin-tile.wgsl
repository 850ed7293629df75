// multiplyTile  a tile for few rows, as in decoding: all of right is read, and each number of it is used only a few times.
// Work          one workgroup of LANES; each sums ROWS rows × 4 neighbouring columns. One load of right is a four per lane, side
//               by side; the numbers of left are the same for all lanes.
// Constants     ROWS: 1 or 4. At 8 and more another tile is faster.
// Chosen        on GPUs up to 4 rows, on SwiftShader for 1, if operands and result begin and are cut at multiples of four.
// Measured      1×896×4864 on lavapipe: weights are read at 11 GB/s (a copy of vec4f reads 4 and writes 4); broadcast tile 3.5.
//               Mesa 25.0.7, AMD EPYC (Zen 4); node bench/run.ts "decode 0.5B" --adapter lavapipe.
const TILE_ROWS = ROWS;
const TILE_COLUMNS = 4u * LANES;

fn multiplyTile(p: Product, tile: vec2u, lane: u32) {
  let row = tile.x * TILE_ROWS;
  let column = tile.y * TILE_COLUMNS + lane * 4u;
  let rightStart = rightColumnStart(p, column);
  let last = p.count - 1u;
  var leftStart: array<u32, ROWS>;
  var sums: array<vec4f, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    leftStart[r] = leftRowStart(p, row + r);
    if (p.continues) {
      sums[r] = storedFour(p, row + r, column);
    } else if (p.startsFromColumns) {
      sums[r] = vec4f(columnStart(column), columnStart(column + 1u), columnStart(column + 2u), columnStart(column + 3u));
    }
  }
  for (var k = 0u; k < p.count; k += 4u) {
    // Steps past the last one are 0 on the left.
    let isStep = vec4u(0u, 1u, 2u, 3u) < vec4u(p.count - k);
    let b0 = rightFour(rightStart + k * p.rightStep);
    let b1 = rightFour(rightStart + min(k + 1u, last) * p.rightStep);
    let b2 = rightFour(rightStart + min(k + 2u, last) * p.rightStep);
    let b3 = rightFour(rightStart + min(k + 3u, last) * p.rightStep);
    for (var r = 0u; r < ROWS; r++) {
      let a = select(vec4f(), leftFour(leftStart[r] + k), isStep);
      sums[r] = fma(vec4f(a.w), b3, fma(vec4f(a.z), b2, fma(vec4f(a.y), b1, fma(vec4f(a.x), b0, sums[r]))));
    }
  }
  for (var r = 0u; r < ROWS; r++) { storeFour(p, row + r, column, sums[r]); }
}

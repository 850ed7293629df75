// multiplyTile  the tile for GPUs: both operands pass through workgroup memory, where each loaded element is used 64 times.
// Work          one workgroup of 128; each invocation sums 8 rows × 4 columns of a tile of 64 × 64. Blocks of 16 steps are loaded
//               in fours: neighbouring invocations load neighbouring fours, two of left and two of right per invocation.
// Memory        8 KiB of workgroup memory.
// Chosen        on GPUs, if operands and result begin and are cut at multiples of four, from 5 rows on.
const TILE_ROWS = 64u;
const TILE_COLUMNS = 64u;
const STEPS = 16u;

var<workgroup> leftTile: array<vec4f, 256>;  // [row][step / 4], or where rows lie side by side [step][row / 4]
var<workgroup> rightTile: array<vec4f, 256>; // [step][column / 4]

fn multiplyTile(p: Product, tile: vec2u, lane: u32) {
  let firstRow = tile.x * TILE_ROWS;
  let firstColumn = tile.y * TILE_COLUMNS;
  let rowInTile = lane / 16u * 8u;
  let row = firstRow + rowInTile;
  let column = firstColumn + lane % 16u * 4u;
  var sums: array<vec4f, 8>; // [row][column]
  startOfTile(p, row, column, &sums);
  for (var k = 0u; k < p.count; k += STEPS) {
    for (var i = lane; i < 256u; i += 128u) {
      if (LEFT_ALONG_STEPS) {
        let isStep = vec4u(0u, 1u, 2u, 3u) + k + i % 4u * 4u < vec4u(p.count);
        leftTile[i] = select(vec4f(), leftFour(leftRowStart(p, firstRow + i / 4u) + min(k + i % 4u * 4u, (p.count - 1u) / 4u * 4u)), isStep);
      } else {
        let four = min(firstRow + i % 16u * 4u, p.rows - 4u);
        leftTile[i] = select(vec4f(), leftFour(leftRowStart(p, four) + min(k + i / 16u, p.count - 1u) * p.leftStep), k + i / 16u < p.count);
      }
      rightTile[i] = rightFour(rightColumnStart(p, firstColumn + i % 16u * 4u) + min(k + i / 16u, p.count - 1u) * p.rightStep);
    }
    workgroupBarrier();
    for (var four = 0u; four < STEPS / 4u; four++) {
      let b0 = rightTile[four * 64u + lane % 16u];
      let b1 = rightTile[four * 64u + 16u + lane % 16u];
      let b2 = rightTile[four * 64u + 32u + lane % 16u];
      let b3 = rightTile[four * 64u + 48u + lane % 16u];
      for (var r = 0u; r < 8u; r++) {
        let a = leftSteps(rowInTile + r, four);
        sums[r] = fma(vec4f(a.w), b3, fma(vec4f(a.z), b2, fma(vec4f(a.y), b1, fma(vec4f(a.x), b0, sums[r]))));
      }
    }
    workgroupBarrier();
  }
  for (var r = 0u; r < 8u; r++) { storeSums(p, row, r, column, &sums); }
}

/** Four steps of a row of the tile. */
fn leftSteps(row: u32, four: u32) -> vec4f {
  if (LEFT_ALONG_STEPS) { return leftTile[row * 4u + four]; }
  let at = four * 64u + row / 4u;
  return vec4f(leftTile[at][row % 4u], leftTile[at + 16u][row % 4u], leftTile[at + 32u][row % 4u], leftTile[at + 48u][row % 4u]);
}

// A four of the result lies along a row; if rows are neighbours in memory, along a column: round r then takes four rows of a column.

fn startOfTile(p: Product, row: u32, column: u32, sums: ptr<function, array<vec4f, 8>>) {
  for (var r = 0u; r < 8u; r++) {
    if (p.continues && LEFT_ALONG_STEPS) {
      (*sums)[r] = storedFour(p, row + r, column);
    } else if (p.continues) {
      let four = storedFour(p, row + r / 4u * 4u, column + r % 4u);
      for (var i = 0u; i < 4u; i++) { (*sums)[r / 4u * 4u + i][r % 4u] = four[i]; }
    } else if (p.startsFromColumns) {
      (*sums)[r] = vec4f(columnStart(column), columnStart(column + 1u), columnStart(column + 2u), columnStart(column + 3u));
    }
  }
}

fn storeSums(p: Product, row: u32, r: u32, column: u32, sums: ptr<function, array<vec4f, 8>>) {
  if (LEFT_ALONG_STEPS) {
    storeFour(p, row + r, column, (*sums)[r]);
  } else {
    let first = r / 4u * 4u;
    let j = r % 4u;
    storeFour(p, row + first, column + j, vec4f((*sums)[first][j], (*sums)[first + 1u][j], (*sums)[first + 2u][j], (*sums)[first + 3u][j]));
  }
}

enable subgroups;
// multiplyTile  the tile for lavapipe, where a subgroup is one vector of 8 lanes. It loads lane by lane, and four neighbours
//               cost little more than one number: so everything is read and written in fours.
// Work          one subgroup of 8 per workgroup; each lane sums 4 neighbouring rows × 32 columns. Per four steps it loads its
//               4 × 4 block of left, and one four of columns of right per step; it gets the other columns by broadcast.
//               Sums lie in the first-level cache: each is fetched once per four multiply-adds.
// Parts         which columns these are, and where their sums go: vector-columns, or vector-pairs.
// Chosen        on lavapipe, if operands and result begin and are cut at multiples of four, from 9 rows on.
// Measured      256×896×4864: 42–48 GFLOP/s of 2 cores in all three products; broadcast tile 28–37. Compiles in 0.4 s, the
//               broadcast tile in 0.2 s. Mesa 25.0.7, AMD EPYC (Zen 4); node bench/run.ts "0.5B gate" --adapter lavapipe.
const TILE_ROWS = 32u;
const TILE_COLUMNS = 32u;
alias Sums = array<f32, 4u * TILE_COLUMNS>; // [column][row]
alias Steps = array<vec4f, 4>;

fn multiplyTile(p: Product, tile: vec2u, lane: u32) {
  let row = tile.x * TILE_ROWS + lane * 4u;
  let column = tile.y * TILE_COLUMNS;
  var leftStart = vec4u(leftRowStart(p, min(row, p.rows - min(p.rows, 4u)))); // rows side by side: its neighbours follow
  if (LEFT_ALONG_STEPS) {
    leftStart = vec4u(leftRowStart(p, row), leftRowStart(p, row + 1u), leftRowStart(p, row + 2u), leftRowStart(p, row + 3u));
  }
  let rightStart = rightStartOf(p, tile.y, lane);
  var sums: Sums;
  if (p.startsFromColumns) {
    for (var i = 0u; i < 4u * TILE_COLUMNS; i++) { sums[i] = columnStart(column + i / 4u); }
  }
  if (p.continues) { readTile(p, row, column, &sums); }
  for (var k = 0u; k < p.count; k += 4u) {
    let a = leftSteps(p, leftStart, k);
    let last = p.count - 1u;
    let b0 = rightFour(rightStart + k * p.rightStep);
    let b1 = rightFour(rightStart + min(k + 1u, last) * p.rightStep);
    let b2 = rightFour(rightStart + min(k + 2u, last) * p.rightStep);
    let b3 = rightFour(rightStart + min(k + 3u, last) * p.rightStep);
    addFour(&sums, 0u, a, subgroupBroadcast(b0, 0u), subgroupBroadcast(b1, 0u), subgroupBroadcast(b2, 0u), subgroupBroadcast(b3, 0u));
    addFour(&sums, 4u, a, subgroupBroadcast(b0, 1u), subgroupBroadcast(b1, 1u), subgroupBroadcast(b2, 1u), subgroupBroadcast(b3, 1u));
    addFour(&sums, 8u, a, subgroupBroadcast(b0, 2u), subgroupBroadcast(b1, 2u), subgroupBroadcast(b2, 2u), subgroupBroadcast(b3, 2u));
    addFour(&sums, 12u, a, subgroupBroadcast(b0, 3u), subgroupBroadcast(b1, 3u), subgroupBroadcast(b2, 3u), subgroupBroadcast(b3, 3u));
    addFour(&sums, 16u, a, subgroupBroadcast(b0, 4u), subgroupBroadcast(b1, 4u), subgroupBroadcast(b2, 4u), subgroupBroadcast(b3, 4u));
    addFour(&sums, 20u, a, subgroupBroadcast(b0, 5u), subgroupBroadcast(b1, 5u), subgroupBroadcast(b2, 5u), subgroupBroadcast(b3, 5u));
    addFour(&sums, 24u, a, subgroupBroadcast(b0, 6u), subgroupBroadcast(b1, 6u), subgroupBroadcast(b2, 6u), subgroupBroadcast(b3, 6u));
    addFour(&sums, 28u, a, subgroupBroadcast(b0, 7u), subgroupBroadcast(b1, 7u), subgroupBroadcast(b2, 7u), subgroupBroadcast(b3, 7u));
  }
  storeTile(p, row, column, &sums);
}

/** [step][row]: four steps of four neighbouring rows, 0 past the last step. */
fn leftSteps(p: Product, start: vec4u, k: u32) -> Steps {
  let rest = p.count - k;
  if (LEFT_ALONG_STEPS) {
    let rows = transpose(mat4x4f(leftFour(start.x + k), leftFour(start.y + k), leftFour(start.z + k), leftFour(start.w + k)));
    return Steps(rows[0], select(vec4f(), rows[1], rest > 1u), select(vec4f(), rows[2], rest > 2u), select(vec4f(), rows[3], rest > 3u));
  }
  let at = start.x + k * p.leftStep;
  return Steps(
    leftFour(at),
    select(vec4f(), leftFour(at + p.leftStep), rest > 1u),
    select(vec4f(), leftFour(at + 2u * p.leftStep), rest > 2u),
    select(vec4f(), leftFour(at + 3u * p.leftStep), rest > 3u),
  );
}

/** Never more than all of them. But a loop whose end the compiler knows is unrolled, which takes it seconds. */
fn tileColumns(p: Product, column: u32) -> u32 { return min(TILE_COLUMNS, 4u * (p.columns - column)); }

fn addFour(sums: ptr<function, Sums>, column: u32, a: Steps, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f) {
  addColumn(sums, column, a, b0.x, b1.x, b2.x, b3.x);
  addColumn(sums, column + 1u, a, b0.y, b1.y, b2.y, b3.y);
  addColumn(sums, column + 2u, a, b0.z, b1.z, b2.z, b3.z);
  addColumn(sums, column + 3u, a, b0.w, b1.w, b2.w, b3.w);
}

fn addColumn(sums: ptr<function, Sums>, column: u32, a: Steps, b0: f32, b1: f32, b2: f32, b3: f32) {
  for (var r = 0u; r < 4u; r++) {
    let at = column * 4u + r;
    (*sums)[at] = fma(a[3][r], b3, fma(a[2][r], b2, fma(a[1][r], b1, fma(a[0][r], b0, (*sums)[at]))));
  }
}

// A four of the result lies along a row; if rows are neighbours in memory, along a column.

fn readTile(p: Product, row: u32, column: u32, sums: ptr<function, Sums>) {
  for (var i = 0u; i < tileColumns(p, column); i++) {
    if (LEFT_ALONG_STEPS) {
      let four = storedFour(p, row + i % 4u, column + i / 4u * 4u);
      let at = i / 4u * 16u + i % 4u;
      (*sums)[at] = four.x; (*sums)[at + 4u] = four.y; (*sums)[at + 8u] = four.z; (*sums)[at + 12u] = four.w;
    } else {
      let four = storedFour(p, row, column + i);
      let at = i * 4u;
      (*sums)[at] = four.x; (*sums)[at + 1u] = four.y; (*sums)[at + 2u] = four.z; (*sums)[at + 3u] = four.w;
    }
  }
}

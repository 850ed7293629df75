enable subgroups;
// multiplyTile  a tile for up to 16 rows on lavapipe, as in decoding. There a load costs about 65 cycles: it is executed lane by
//               lane, and each lane gets four neighbours. So every load brings 32 different numbers, and no number is loaded twice.
// Work          one subgroup of 8 per workgroup. Lanes lie along the columns: each sums ROWS rows × 4 neighbouring columns. A lane loads
//               four steps of one row of left; the other lanes get them by broadcast. With fewer than 8 rows the spare lanes
//               load the four steps that follow (`quad` 1), so that a load of left serves eight steps.
// Constants     ROWS: 1, 4, 8 or 16.
// Chosen        on lavapipe up to 16 rows, if operands and result begin and are cut at multiples of four.
// Measured      16×576×1536 and 16×1536×576: 21 GFLOP/s per core, vector tile 14; 8 rows 15 and 7; 4 rows 8.5 and 10 (thin tile 6 and 7);
//               1 row 5.3 and 6.7 GB/s per core (thin tile 4.7 and 6.2). By processor time, Mesa 25.0.7, Intel Xeon;
//               node bench/run.ts "decode SmolLM2" --adapter lavapipe.
const TILE_ROWS = ROWS;
const TILE_COLUMNS = 32u;
/** Rows of left in one load, and steps that it serves. */
const LOADED_ROWS = min(ROWS, 8u);
const QUADS = select(1u, 2u, ROWS < 8u);
alias Sums = array<vec4f, ROWS>;
alias Steps = array<vec4f, 4>; // [step][column]

fn multiplyTile(p: Product, tile: vec2u, lane: u32) {
  let row = tile.x * TILE_ROWS;
  let column = tile.y * TILE_COLUMNS + lane * 4u;
  let rightStart = rightColumnStart(p, column);
  let leftStart = leftRowStart(p, row + lane % LOADED_ROWS);
  let quad = lane / LOADED_ROWS % QUADS;
  let lastFour = (p.count - 1u) / 4u * 4u;
  var sums: Sums;
  for (var r = 0u; r < ROWS; r++) {
    if (p.continues) {
      sums[r] = storedFour(p, row + r, column);
    } else if (p.startsFromColumns) {
      sums[r] = vec4f(columnStart(column), columnStart(column + 1u), columnStart(column + 2u), columnStart(column + 3u));
    }
  }
  for (var k = 0u; k < p.count; k += 4u * QUADS) {
    let at = min(k + 4u * quad, lastFour);
    let a = leftSteps(p, leftStart, at);
    let b = rightSteps(p, rightStart, k);
    if (ROWS == 1u) {
      addRow(&sums, 0u, subgroupBroadcast(a, 0u), b);
    } else {
      addRows(&sums, 0u, a, b);
    }
    if (ROWS >= 8u) { addUpperRows(&sums, 4u, a, b); }
    if (ROWS == 16u) {
      let more = leftSteps(p, leftRowStart(p, row + 8u + lane), at);
      addRows(&sums, 8u, more, b);
      addUpperRows(&sums, 12u, more, b);
    }
    if (QUADS == 2u && k + 4u < p.count) {
      let next = rightSteps(p, rightStart, k + 4u);
      if (ROWS == 1u) {
        addRow(&sums, 0u, subgroupBroadcast(a, 1u), next);
      } else {
        addUpperRows(&sums, 0u, a, next);
      }
    }
  }
  // One loop, not unrolled, which would take longer to compile.
  for (var r = 0u; r < min(ROWS, p.rows - row); r++) { storeFour(p, row + r, column, sums[r]); }
}

/** Four steps of a row of left, 0 past the last step. */
fn leftSteps(p: Product, start: u32, k: u32) -> vec4f {
  return select(vec4f(), leftFour(start + k), vec4u(0u, 1u, 2u, 3u) < vec4u(p.count - k));
}

/** Four steps of four columns of right; past the last step the last one again. */
fn rightSteps(p: Product, start: u32, k: u32) -> Steps {
  let last = p.count - 1u;
  return Steps(
    rightFour(start + k * p.rightStep),
    rightFour(start + min(k + 1u, last) * p.rightStep),
    rightFour(start + min(k + 2u, last) * p.rightStep),
    rightFour(start + min(k + 3u, last) * p.rightStep),
  );
}

/** Four rows, whose steps lanes 0 to 3 loaded. */
fn addRows(sums: ptr<function, Sums>, first: u32, a: vec4f, b: Steps) {
  addRow(sums, first, subgroupBroadcast(a, 0u), b);
  addRow(sums, first + 1u, subgroupBroadcast(a, 1u), b);
  addRow(sums, first + 2u, subgroupBroadcast(a, 2u), b);
  addRow(sums, first + 3u, subgroupBroadcast(a, 3u), b);
}

/** Four rows, whose steps lanes 4 to 7 loaded. */
fn addUpperRows(sums: ptr<function, Sums>, first: u32, a: vec4f, b: Steps) {
  addRow(sums, first, subgroupBroadcast(a, 4u), b);
  addRow(sums, first + 1u, subgroupBroadcast(a, 5u), b);
  addRow(sums, first + 2u, subgroupBroadcast(a, 6u), b);
  addRow(sums, first + 3u, subgroupBroadcast(a, 7u), b);
}

fn addRow(sums: ptr<function, Sums>, row: u32, a: vec4f, b: Steps) {
  (*sums)[row] = fma(vec4f(a.w), b[3], fma(vec4f(a.z), b[2], fma(vec4f(a.y), b[1], fma(vec4f(a.x), b[0], (*sums)[row]))));
}

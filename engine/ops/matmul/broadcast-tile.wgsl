enable subgroups;
// multiplyTile  a tile for adapters with expensive loads and cheap subgroup operations. On lavapipe a subgroup is one vector of 8
//               lanes; it loads lane by lane (about 30 cycles) and broadcasts in one instruction.
// Work          one subgroup of 8 per workgroup. Lanes lie along the rows: each sums ROWS rows, 8 apart, × 32 columns. Per step
//               each lane loads ROWS elements of left and one of each panel of right; it gets the rest by broadcast:
//               ROWS + 4 loads for ROWS · 32 multiply-adds.
// Constants     ROWS: 4, or 1 for few rows. With more than 4 the loop is not unrolled: 20 times slower.
// Chosen        on lavapipe.
// Measured      448×64×192: 18–20 GFLOP/s by processor time of 2 busy cores; compiles in 0.1 s. Register tiles of 8 rows × 8
//               columns with vec4 loads: 11–12, compile in 0.5 s. Mesa 25.0.7, AMD EPYC (Zen 4);
//               node bench/run.ts "tiny gate" --adapter lavapipe.
const PANELS = 4u;
const TILE_ROWS = 8u * ROWS;
const TILE_COLUMNS = 8u * PANELS;
alias Sums = array<f32, ROWS * TILE_COLUMNS>;

fn multiplyTile(p: Product, tile: vec2u, lane: u32) {
  let row = tile.x * TILE_ROWS + lane;
  let column = tile.y * TILE_COLUMNS;
  var leftStart: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) { leftStart[r] = leftRowStart(p, row + r * 8u); }
  var rightStart: array<u32, PANELS>;
  for (var j = 0u; j < PANELS; j++) { rightStart[j] = rightColumnStart(p, column + j * 8u + lane); }
  var sums: Sums;
  if (p.startsFromColumns) {
    var ones: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { ones[r] = 1.0; }
    for (var j = 0u; j < PANELS; j++) { addPanel(&sums, j, ones, columnStart(column + j * 8u + lane)); }
  }
  if (p.continues) {
    for (var i = 0u; i < ROWS * TILE_COLUMNS; i++) { sums[i] = storedSum(p, row + i % ROWS * 8u, column + i / ROWS); }
  }
  for (var k = 0u; k < p.count; k++) {
    var a: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { a[r] = leftOne(leftStart[r] + k * p.leftStep); }
    for (var j = 0u; j < PANELS; j++) { addPanel(&sums, j, a, rightOne(rightStart[j] + k * p.rightStep)); }
  }
  // One loop, not unrolled: 128 consecutive stores would take half a second to compile.
  for (var i = 0u; i < ROWS * TILE_COLUMNS; i++) { storeSum(p, row + i % ROWS * 8u, column + i / ROWS, sums[i]); }
}

/** sums[r, j] += a[r] · b of lane j, for the eight columns of a panel. */
fn addPanel(sums: ptr<function, Sums>, panel: u32, a: array<f32, ROWS>, b: f32) {
  let first = panel * 8u * ROWS;
  addColumn(sums, first, a, subgroupBroadcast(b, 0u));
  addColumn(sums, first + ROWS, a, subgroupBroadcast(b, 1u));
  addColumn(sums, first + 2u * ROWS, a, subgroupBroadcast(b, 2u));
  addColumn(sums, first + 3u * ROWS, a, subgroupBroadcast(b, 3u));
  addColumn(sums, first + 4u * ROWS, a, subgroupBroadcast(b, 4u));
  addColumn(sums, first + 5u * ROWS, a, subgroupBroadcast(b, 5u));
  addColumn(sums, first + 6u * ROWS, a, subgroupBroadcast(b, 6u));
  addColumn(sums, first + 7u * ROWS, a, subgroupBroadcast(b, 7u));
}

fn addColumn(sums: ptr<function, Sums>, first: u32, a: array<f32, ROWS>, b: f32) {
  for (var r = 0u; r < ROWS; r++) { (*sums)[first + r] = fma(a[r], b, (*sums)[first + r]); }
}

enable subgroups;
// multiplyTile  a tile for SwiftShader, which checks every load (an integer division), loads lane by lane, and hoists nothing out
//               of a loop. So there are few loads, and quad operations pass each value from one of 4 lanes to all.
// Work          one subgroup of 4 per workgroup; each lane sums 4 neighbouring rows × 16 columns. Per four steps a lane loads
//               its 4 × 4 block of left, and the 16 columns of right for one of the four steps.
// Chosen        on SwiftShader.
// Measured      448×64×192: 2.5–3.1 GFLOP/s by processor time of 2 busy cores; register tiles of 8 rows × 8 columns with vec4
//               loads 2.3, the plain tile 1.1. SwiftShader 5.0.0 (Subzero), AMD EPYC (Zen 4);
//               node bench/run.ts "tiny gate" --adapter swiftshader.
const TILE_ROWS = 16u;
const TILE_COLUMNS = 16u;
alias Sums = array<mat4x4f, 4>; // [column / 4][column % 4][row]

fn multiplyTile(p: Product, tile: vec2u, lane: u32) {
  let row = tile.x * TILE_ROWS + lane * 4u;
  let column = tile.y * TILE_COLUMNS;
  var leftStart = vec4u(leftRowStart(p, row)); // rows side by side: its neighbours follow
  if (LEFT_ALONG_STEPS) {
    leftStart = vec4u(leftRowStart(p, row), leftRowStart(p, row + 1u), leftRowStart(p, row + 2u), leftRowStart(p, row + 3u));
  }
  let rightStart = vec4u(
    rightColumnStart(p, column), rightColumnStart(p, column + 4u), rightColumnStart(p, column + 8u), rightColumnStart(p, column + 12u),
  );
  var sums = startOfTile(p, row, column);
  var sums0 = sums[0];
  var sums1 = sums[1];
  var sums2 = sums[2];
  var sums3 = sums[3];
  for (var k = 0u; k < p.count; k += 4u) {
    let a = leftBlock(p, leftStart, k);
    let step = min(k + lane, p.count - 1u) * p.rightStep;
    let isStep = k + lane < p.count;
    let b0 = right4(rightStart.x + step, isStep);
    let b1 = right4(rightStart.y + step, isStep);
    let b2 = right4(rightStart.z + step, isStep);
    let b3 = right4(rightStart.w + step, isStep);
    sums0 = addStep3(a[3], b0, addStep2(a[2], b0, addStep1(a[1], b0, addStep0(a[0], b0, sums0))));
    sums1 = addStep3(a[3], b1, addStep2(a[2], b1, addStep1(a[1], b1, addStep0(a[0], b1, sums1))));
    sums2 = addStep3(a[3], b2, addStep2(a[2], b2, addStep1(a[1], b2, addStep0(a[0], b2, sums2))));
    sums3 = addStep3(a[3], b3, addStep2(a[2], b3, addStep1(a[1], b3, addStep0(a[0], b3, sums3))));
  }
  sums = array(sums0, sums1, sums2, sums3);
  for (var j = 0u; j < TILE_COLUMNS; j++) {
    let four = sums[j / 4u][j % 4u];
    storeSum(p, row, column + j, four.x);
    storeSum(p, row + 1u, column + j, four.y);
    storeSum(p, row + 2u, column + j, four.z);
    storeSum(p, row + 3u, column + j, four.w);
  }
}

// Steps past the last one are 0 on both sides.

/** [step][row]: four steps of four neighbouring rows. */
fn leftBlock(p: Product, start: vec4u, k: u32) -> mat4x4f {
  let rest = p.count - k;
  if (LEFT_ALONG_STEPS) {
    return transpose(mat4x4f(left4(start.x + k, rest), left4(start.y + k, rest), left4(start.z + k, rest), left4(start.w + k, rest)));
  }
  let at = start.x + k * p.leftStep;
  return mat4x4f(
    left4(at, 4u),
    left4(at + p.leftStep, select(0u, 4u, rest > 1u)),
    left4(at + 2u * p.leftStep, select(0u, 4u, rest > 2u)),
    left4(at + 3u * p.leftStep, select(0u, 4u, rest > 3u)),
  );
}

/** Four neighbours; those from `count` on count as 0. */
fn left4(at: u32, count: u32) -> vec4f {
  let four = vec4f(leftOne(at), leftOne(at + 1u), leftOne(at + 2u), leftOne(at + 3u));
  return select(vec4f(), four, vec4u(0u, 1u, 2u, 3u) < vec4u(count));
}

fn right4(at: u32, isStep: bool) -> vec4f {
  return select(vec4f(), vec4f(rightOne(at), rightOne(at + 1u), rightOne(at + 2u), rightOne(at + 3u)), isStep);
}

fn startOfTile(p: Product, row: u32, column: u32) -> Sums {
  var sums: Sums;
  if (p.continues) {
    for (var i = 0u; i < 4u * TILE_COLUMNS; i++) { sums[i / 16u][i / 4u % 4u][i % 4u] = storedSum(p, row + i % 4u, column + i / 4u); }
  } else if (p.startsFromColumns) {
    for (var j = 0u; j < TILE_COLUMNS; j++) { sums[j / 4u][j % 4u] = vec4f(columnStart(column + j)); }
  }
  return sums;
}

// sums[column][row] += a[row] · b[column] of the lane that loaded the step.
fn addStep0(a: vec4f, b: vec4f, sums: mat4x4f) -> mat4x4f {
  return mat4x4f(fma(a, vec4f(quadBroadcast(b.x, 0u)), sums[0]), fma(a, vec4f(quadBroadcast(b.y, 0u)), sums[1]),
    fma(a, vec4f(quadBroadcast(b.z, 0u)), sums[2]), fma(a, vec4f(quadBroadcast(b.w, 0u)), sums[3]));
}
fn addStep1(a: vec4f, b: vec4f, sums: mat4x4f) -> mat4x4f {
  return mat4x4f(fma(a, vec4f(quadBroadcast(b.x, 1u)), sums[0]), fma(a, vec4f(quadBroadcast(b.y, 1u)), sums[1]),
    fma(a, vec4f(quadBroadcast(b.z, 1u)), sums[2]), fma(a, vec4f(quadBroadcast(b.w, 1u)), sums[3]));
}
fn addStep2(a: vec4f, b: vec4f, sums: mat4x4f) -> mat4x4f {
  return mat4x4f(fma(a, vec4f(quadBroadcast(b.x, 2u)), sums[0]), fma(a, vec4f(quadBroadcast(b.y, 2u)), sums[1]),
    fma(a, vec4f(quadBroadcast(b.z, 2u)), sums[2]), fma(a, vec4f(quadBroadcast(b.w, 2u)), sums[3]));
}
fn addStep3(a: vec4f, b: vec4f, sums: mat4x4f) -> mat4x4f {
  return mat4x4f(fma(a, vec4f(quadBroadcast(b.x, 3u)), sums[0]), fma(a, vec4f(quadBroadcast(b.y, 3u)), sums[1]),
    fma(a, vec4f(quadBroadcast(b.z, 3u)), sums[2]), fma(a, vec4f(quadBroadcast(b.w, 3u)), sums[3]));
}

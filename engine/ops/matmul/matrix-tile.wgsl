// multiplyOnMatrixUnits  a tile on matrix units (tensor cores): f16 operands, f32 sums. See product.wgsl for the sum.
// Work          one workgroup per tile. It holds SUBGROUPS_DOWN × SUBGROUPS_ACROSS subgroups; each sums MATRICES_DOWN × MATRICES_ACROSS
//               matrices of the adapter's shape. A round loads MATRICES_DEEP matrices' steps of both operands into workgroup memory,
//               in eights: neighbouring invocations load neighbouring eights. A subgroup reads each of them several times.
// Constants     MATRIX_…: the shape. The other four are counts, LANES the invocations. Counts change no bit of a sum.
// Memory        each operand once per tile. Workgroup memory: both operands of a round; before and after, the sums.
// Precision     products of f16 are exact in f32. Sums are f32, by matrices in ascending order of steps; inside a matrix the
//               hardware decides. The order depends on the width alone, not on the number of rows, nor on where a row lies.
// Edges         what lies outside of the operands counts as 0 and is never read; what lies outside of the result is never written.
// Chosen        for f16 operands if the adapter has a shape with f16 operands and f32 sums; the same tile for every number of rows.
const TILE_ROWS = MATRIX_ROWS * MATRICES_DOWN * SUBGROUPS_DOWN;
const TILE_COLUMNS = MATRIX_COLUMNS * MATRICES_ACROSS * SUBGROUPS_ACROSS;
const TILE_STEPS = MATRIX_STEPS * MATRICES_DEEP;
const SUBGROUPS = SUBGROUPS_DOWN * SUBGROUPS_ACROSS;

// Lines of the operands in workgroup memory, counted in eights. One more per line, so that lines begin in different banks.
const LEFT_LINES = select(TILE_STEPS, TILE_ROWS, LEFT_ALONG_STEPS);
const LEFT_EIGHTS = select(TILE_ROWS, TILE_STEPS, LEFT_ALONG_STEPS) / 8u;
const LEFT_STRIDE = LEFT_EIGHTS + 1u;
const RIGHT_EIGHTS = TILE_COLUMNS / 8u;
const RIGHT_STRIDE = RIGHT_EIGHTS + 1u;
const RIGHT_FIRST = LEFT_LINES * LEFT_STRIDE;
const OPERAND_EIGHTS = RIGHT_FIRST + TILE_STEPS * RIGHT_STRIDE;
// One matrix of sums per subgroup, in fours.
const MATRIX_FOURS = MATRIX_ROWS * MATRIX_COLUMNS / 4u;
const SUM_FOURS = SUBGROUPS * MATRIX_FOURS;

/** Both operands of a round; before the first and after the last round, sums (bits of f32). */
var<workgroup> staged: array<vec4u, max(OPERAND_EIGHTS, SUM_FOURS)>;

fn multiplyOnMatrixUnits(p: Product, tile: vec2u, subgroup: u32, lane: u32) {
  let first = tile * vec2u(TILE_ROWS, TILE_COLUMNS);
  // There are more subgroups than SUBGROUPS if the driver makes them smaller than the largest; the others only load and store.
  let isSumming = subgroup < SUBGROUPS;
  let ownRow = subgroup / SUBGROUPS_ACROSS * MATRICES_DOWN * MATRIX_ROWS;
  let ownColumn = subgroup % SUBGROUPS_ACROSS * MATRICES_ACROSS * MATRIX_COLUMNS;
  var sums: array<array<SumMatrix, MATRICES_ACROSS>, MATRICES_DOWN>;
  // Written out: a kernel may call this in a loop, where a `var` may keep its last value.
  /* @unroll */ for (var down = 0u; down < MATRICES_DOWN; down++) {
    /* @unroll */ for (var across = 0u; across < MATRICES_ACROSS; across++) { sums[down][across] = SumMatrix(); }
  }
  if (p.continues || p.startsFromColumns) {
    /* @unroll */ for (var down = 0u; down < MATRICES_DOWN; down++) {
      /* @unroll */ for (var across = 0u; across < MATRICES_ACROSS; across++) {
        for (var four = lane; four < SUM_FOURS; four += LANES) { staged[four] = startsOf(p, first, 4u * four, down, across); }
        workgroupBarrier();
        if (isSumming && LEFT_ALONG_STEPS) {
          sums[down][across] = subgroupMatrixLoad<SumMatrix, row_major>(&staged, subgroup * MATRIX_FOURS, MATRIX_COLUMNS / 4u);
        } else if (isSumming) {
          sums[down][across] = subgroupMatrixLoad<SumMatrix, col_major>(&staged, subgroup * MATRIX_FOURS, MATRIX_ROWS / 4u);
        }
        workgroupBarrier();
      }
    }
  }
  for (var k = 0u; k < p.count; k += TILE_STEPS) {
    for (var i = lane; i < LEFT_LINES * LEFT_EIGHTS; i += LANES) {
      staged[i / LEFT_EIGHTS * LEFT_STRIDE + i % LEFT_EIGHTS] = leftOrZero(p, first.x, k, i / LEFT_EIGHTS, i % LEFT_EIGHTS * 8u);
    }
    for (var i = lane; i < TILE_STEPS * RIGHT_EIGHTS; i += LANES) {
      staged[RIGHT_FIRST + i / RIGHT_EIGHTS * RIGHT_STRIDE + i % RIGHT_EIGHTS] = rightOrZero(p, k + i / RIGHT_EIGHTS, first.y + i % RIGHT_EIGHTS * 8u);
    }
    workgroupBarrier();
    if (isSumming) {
      for (var deep = 0u; deep < MATRICES_DEEP; deep++) {
        let step = deep * MATRIX_STEPS;
        let rightStart = RIGHT_FIRST + step * RIGHT_STRIDE + ownColumn / 8u;
        var b: array<RightMatrix, MATRICES_ACROSS>;
        /* @unroll */ for (var across = 0u; across < MATRICES_ACROSS; across++) {
          b[across] = subgroupMatrixLoad<RightMatrix, row_major>(&staged, rightStart + across * MATRIX_COLUMNS / 8u, RIGHT_STRIDE);
        }
        /* @unroll */ for (var down = 0u; down < MATRICES_DOWN; down++) {
          let row = ownRow + down * MATRIX_ROWS;
          var a: LeftMatrix;
          if (LEFT_ALONG_STEPS) {
            a = subgroupMatrixLoad<LeftMatrix, row_major>(&staged, row * LEFT_STRIDE + step / 8u, LEFT_STRIDE);
          } else {
            a = subgroupMatrixLoad<LeftMatrix, col_major>(&staged, step * LEFT_STRIDE + row / 8u, LEFT_STRIDE);
          }
          /* @unroll */ for (var across = 0u; across < MATRICES_ACROSS; across++) {
            sums[down][across] = subgroupMatrixMultiplyAccumulate(a, b[across], sums[down][across]);
          }
        }
      }
    }
    workgroupBarrier();
  }
  /* @unroll */ for (var down = 0u; down < MATRICES_DOWN; down++) {
    /* @unroll */ for (var across = 0u; across < MATRICES_ACROSS; across++) {
      if (isSumming && LEFT_ALONG_STEPS) {
        subgroupMatrixStore<row_major>(&staged, subgroup * MATRIX_FOURS, sums[down][across], MATRIX_COLUMNS / 4u);
      } else if (isSumming) {
        subgroupMatrixStore<col_major>(&staged, subgroup * MATRIX_FOURS, sums[down][across], MATRIX_ROWS / 4u);
      }
      workgroupBarrier();
      storeStaged(p, first, down, across, lane);
      workgroupBarrier();
    }
  }
}

/** Row and column in the tile of the staged sum `i`; neighbours lie side by side in the result. */
fn placeOf(i: u32, down: u32, across: u32) -> vec2u {
  let subgroup = i / (4u * MATRIX_FOURS);
  let inMatrix = i % (4u * MATRIX_FOURS);
  let row = (subgroup / SUBGROUPS_ACROSS * MATRICES_DOWN + down) * MATRIX_ROWS;
  let column = (subgroup % SUBGROUPS_ACROSS * MATRICES_ACROSS + across) * MATRIX_COLUMNS;
  if (LEFT_ALONG_STEPS) { return vec2u(row + inMatrix / MATRIX_COLUMNS, column + inMatrix % MATRIX_COLUMNS); }
  return vec2u(row + inMatrix % MATRIX_ROWS, column + inMatrix / MATRIX_ROWS);
}

/** Where four neighbouring sums start, as bits. */
fn startsOf(p: Product, first: vec2u, i: u32, down: u32, across: u32) -> vec4u {
  return bitcast<vec4u>(vec4f(startOf(p, first + placeOf(i, down, across)), startOf(p, first + placeOf(i + 1u, down, across)),
    startOf(p, first + placeOf(i + 2u, down, across)), startOf(p, first + placeOf(i + 3u, down, across))));
}


/** Eight neighbours of left for workgroup memory: eight steps of a row, or where rows lie side by side eight rows of a step. */
fn leftOrZero(p: Product, firstRow: u32, firstStep: u32, line: u32, inLine: u32) -> vec4u {
  let row = firstRow + select(inLine, line, LEFT_ALONG_STEPS);
  let step = firstStep + select(line, inLine, LEFT_ALONG_STEPS);
  if (row >= p.rows || step >= p.count) { return vec4u(); }
  return leftEight(p.leftBase + row * p.leftRow + step * p.leftStep, select(p.rows - row, p.count - step, LEFT_ALONG_STEPS));
}

/** Eight neighbouring columns of a step of right. */
fn rightOrZero(p: Product, step: u32, column: u32) -> vec4u {
  if (step >= p.count || column >= p.columns) { return vec4u(); }
  return rightEight(p.rightBase + column / 8u * p.rightPanel + step * p.rightStep, p.columns - column);
}

/** The first `count` of eight halves; the others are 0. */
fn firstHalves(words: vec4u, count: u32) -> vec4u {
  let inWord = vec4u(0u, 2u, 4u, 6u);
  return words & select(select(vec4u(), vec4u(0xffffu), vec4u(count) > inWord), vec4u(0xffffffffu), vec4u(count) > inWord + 1u);
}

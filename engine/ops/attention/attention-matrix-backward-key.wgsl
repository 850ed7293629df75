// attentionMatrixBackwardKey  attention-backward-key.wgsl with f16 operands, on matrix units: q, keys, values and dy are rounded to f16,
//             and so are p and the gradients of scores before they multiply dy and q. Scores, p and all sums are f32.
// Work       one workgroup per ROWS neighbouring keys of a key head. Each of its SUBGROUPS subgroups has MATRIX_ROWS of them, with
//            the keys, their values and both sums in matrices; all share the tiles of q and dy. No atomics.
// Method     by blocks of BLOCK neighbouring (token, head) of the key head, heads fastest, counted from the first token of the
//            tensor. For keys that a token does not see p is 0, which changes no bit of their sums.
//            p is multiplied by `lift`, so that small ones stay above f16's smallest normal number.
// Cells      cells of tokens continue the sums. A cut between the tokens of a block makes two blocks of it, and the last bits may
//            differ.
// Constants  as attention-matrix.wgsl. CONTINUES: whether dKeys or dValues may already hold sums. SUBGROUPS changes no bit.
// Memory     keys, values and their gradients once; q twice per tile and block, dy twice.
// Edges      a token that does not see a key counts as nothing if it is finite. If it is not, keys of the same tile may become NaN too.
// Chosen     for operands "f16", if the adapter has matrix units for them.
@group(0) @binding(0) var<storage, read> q: array<Vector>;
@group(0) @binding(1) var<storage, read> keys: array<Vector>;
@group(0) @binding(2) var<storage, read> values: array<Vector>;
@group(0) @binding(3) var<storage, read> dy: array<Vector>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> querySpans: array<vec2u>;
@group(0) @binding(6) var<storage, read_write> dKeys: array<f32>;
@group(0) @binding(7) var<storage, read_write> dValues: array<f32>;

const lift = 1024.0;
const ROWS = MATRIX_ROWS * SUBGROUPS;
const SIZE_EIGHTS = STEPS_DEEP * MATRIX_STEPS / 8u;
// Lines in workgroup memory, counted in eights of halves or fours of f32. One more per line, for the banks.
const LINE = SIZE_EIGHTS + 1u;
const SCORE_LINE = BLOCK / 4u + 1u;
const MATRIX_FOURS = MATRIX_ROWS * MATRIX_COLUMNS / 4u;

/** Keys or values of a subgroup; then q or dy of a block, [row, size of a head]; or one matrix of sums per subgroup (bits of f32). */
var<workgroup> staged: array<vec4u, max(max(BLOCK, MATRIX_ROWS) * LINE, SUBGROUPS * MATRIX_FOURS)>;
/** keys · q of a block, [key, row], bits of f32; then, at the beginning of each line, p as halves. */
var<workgroup> scores: array<vec4u, ROWS * SCORE_LINE>;
/** values · dy of a block; then gradients of the scores as halves. */
var<workgroup> slopes: array<vec4u, ROWS * SCORE_LINE>;
var<workgroup> known: array<vec2f, BLOCK>;
var<workgroup> lowest: atomic<u32>;
var<workgroup> highest: atomic<u32>;
var<workgroup> seenByAny: atomic<u32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(local_invocation_index) lane: u32) {
  let tile = flatWorkgroup(group, groups);
  let keyHead = tile % params.keyHeads;
  let sharing = params.heads / params.keyHeads;
  let first = tile / params.keyHeads * ROWS;
  if (first >= params.slots) { return; }
  // There are more subgroups than SUBGROUPS if the driver makes them smaller than the largest; the others only load and store.
  let isSumming = subgroup < SUBGROUPS;
  let ownScores = subgroup * MATRIX_ROWS * SCORE_LINE;
  let ownSums = subgroup * MATRIX_FOURS;
  if (lane == 0u) {
    atomicStore(&lowest, 0xffffffffu);
    atomicStore(&highest, 0u);
  }

  var key: array<LeftMatrix, STEPS_DEEP>;
  var value: array<LeftMatrix, STEPS_DEEP>;
  var dKey: array<SumMatrix, COLUMNS_ACROSS>;
  var dValue: array<SumMatrix, COLUMNS_ACROSS>;
  for (var owner = 0u; owner < SUBGROUPS; owner++) {
    for (var i = lane; i < MATRIX_ROWS * SIZE_EIGHTS; i += LANES) {
      staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = keyEight(first + owner * MATRIX_ROWS + i / SIZE_EIGHTS, i % SIZE_EIGHTS, keyHead);
    }
    workgroupBarrier();
    if (subgroup == owner) {
      /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
        key[step] = subgroupMatrixLoad<LeftMatrix, row_major>(&staged, step * MATRIX_STEPS / 8u, LINE);
      }
    }
    workgroupBarrier();
    for (var i = lane; i < MATRIX_ROWS * SIZE_EIGHTS; i += LANES) {
      staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = valueEight(first + owner * MATRIX_ROWS + i / SIZE_EIGHTS, i % SIZE_EIGHTS, keyHead);
    }
    workgroupBarrier();
    if (subgroup == owner) {
      /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
        value[step] = subgroupMatrixLoad<LeftMatrix, row_major>(&staged, step * MATRIX_STEPS / 8u, LINE);
      }
    }
    workgroupBarrier();
  }
  if (CONTINUES) {
    /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
      for (var i = lane; i < SUBGROUPS * MATRIX_FOURS; i += LANES) {
        staged[i] = bitcast<vec4u>(keyStart(first + i / (MATRIX_COLUMNS / 4u), across * MATRIX_COLUMNS + i % (MATRIX_COLUMNS / 4u) * 4u, keyHead));
      }
      workgroupBarrier();
      if (isSumming) { dKey[across] = subgroupMatrixLoad<SumMatrix, row_major>(&staged, ownSums, MATRIX_COLUMNS / 4u); }
      workgroupBarrier();
      for (var i = lane; i < SUBGROUPS * MATRIX_FOURS; i += LANES) {
        staged[i] = bitcast<vec4u>(valueStart(first + i / (MATRIX_COLUMNS / 4u), across * MATRIX_COLUMNS + i % (MATRIX_COLUMNS / 4u) * 4u, keyHead));
      }
      workgroupBarrier();
      if (isSumming) { dValue[across] = subgroupMatrixLoad<SumMatrix, row_major>(&staged, ownSums, MATRIX_COLUMNS / 4u); }
      workgroupBarrier();
    }
  }

  // Invocation `lane` looks after key `lane`: the (token, head) of this cell that see it are `begin` … `end` − 1.
  var begin = 0u;
  var end = 0u;
  if (lane < ROWS && first + lane < params.slots) {
    let range = querySpans[params.querySpansBase / 2u + first + lane];
    begin = max(range.x, params.tokensStart) * sharing;
    end = min(range.x + range.y, params.tokensStart + params.tokens) * sharing;
    if (begin < end) {
      atomicMin(&lowest, begin / BLOCK);
      atomicMax(&highest, (end + BLOCK - 1u) / BLOCK);
    }
  }
  let blocks = workgroupUniformLoad(&highest);
  for (var block = workgroupUniformLoad(&lowest); block < blocks; block++) {
    let start = block * BLOCK;
    let lower = min(max(begin, start) - start, BLOCK);
    let upper = min(max(end, start) - start, BLOCK);
    var visible = 0u; // bit c: whether row c of the block sees the key
    if (lower < upper) { visible = (0xffffffffu >> (32u - (upper - lower))) << lower; }
    if (lane == 0u) { atomicStore(&seenByAny, 0u); }
    workgroupBarrier();
    if (visible != 0u) { atomicOr(&seenByAny, 1u); }
    if (workgroupUniformLoad(&seenByAny) == 0u) { continue; }

    // Rows before the cell's first wrap around, and are outside of it as those past its last.
    let firstRow = start - params.tokensStart * sharing;
    for (var i = lane; i < BLOCK; i += LANES) {
      var own = vec2f(0.0);
      if (firstRow + i < params.tokens * sharing) { own = statistics[params.statisticsBase / 2u + itemOf(firstRow + i, keyHead, sharing)]; }
      known[i] = own;
    }
    for (var i = lane; i < BLOCK * SIZE_EIGHTS; i += LANES) {
      staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = queryEight(firstRow + i / SIZE_EIGHTS, i % SIZE_EIGHTS, keyHead, sharing);
    }
    workgroupBarrier();
    if (isSumming) {
      for (var column = 0u; column < BLOCK; column += MATRIX_COLUMNS) {
        var products = SumMatrix();
        /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
          let query = subgroupMatrixLoad<RightMatrix, col_major>(&staged, column * LINE + step * MATRIX_STEPS / 8u, LINE);
          products = subgroupMatrixMultiplyAccumulate(key[step], query, products);
        }
        subgroupMatrixStore<row_major>(&scores, ownScores + column / 4u, products, SCORE_LINE);
      }
    }
    workgroupBarrier();
    for (var i = lane; i < BLOCK * SIZE_EIGHTS; i += LANES) {
      staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = upstreamEight(firstRow + i / SIZE_EIGHTS, i % SIZE_EIGHTS, keyHead, sharing);
    }
    workgroupBarrier();
    if (isSumming) {
      for (var column = 0u; column < BLOCK; column += MATRIX_COLUMNS) {
        var products = SumMatrix();
        /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
          let upstream = subgroupMatrixLoad<RightMatrix, col_major>(&staged, column * LINE + step * MATRIX_STEPS / 8u, LINE);
          products = subgroupMatrixMultiplyAccumulate(value[step], upstream, products);
        }
        subgroupMatrixStore<row_major>(&slopes, ownScores + column / 4u, products, SCORE_LINE);
      }
    }
    workgroupBarrier();

    if (lane < ROWS) {
      let line = lane * SCORE_LINE;
      for (var eight = 0u; eight < BLOCK / 8u; eight++) {
        var weightWords = vec4u(0u);
        var slopeWords = vec4u(0u);
        /* @unroll */ for (var j = 0u; j < 2u; j++) {
          let row = 8u * eight + 4u * j;
          let score = bitcast<vec4f>(scores[line + 2u * eight + j]) * params.scale;
          let product = bitcast<vec4f>(slopes[line + 2u * eight + j]);
          let weight = exp(score - vec4f(known[row].x, known[row + 1u].x, known[row + 2u].x, known[row + 3u].x));
          let slope = params.scale * weight * (product - vec4f(known[row].y, known[row + 1u].y, known[row + 2u].y, known[row + 3u].y));
          let isSeen = ((vec4u(visible) >> (row + vec4u(0u, 1u, 2u, 3u))) & vec4u(1u)) != vec4u(0u);
          let weights = select(vec4f(), lift * weight, isSeen);
          let four = select(vec4f(), slope, isSeen);
          weightWords[2u * j] = halvesOf(weights.xy);
          weightWords[2u * j + 1u] = halvesOf(weights.zw);
          slopeWords[2u * j] = halvesOf(four.xy);
          slopeWords[2u * j + 1u] = halvesOf(four.zw);
        }
        // In place: these lie where products were read already.
        scores[line + eight] = weightWords;
        slopes[line + eight] = slopeWords;
      }
    }
    workgroupBarrier();
    if (isSumming) {
      for (var step = 0u; step < BLOCK; step += MATRIX_STEPS) {
        let weight = subgroupMatrixLoad<LeftMatrix, row_major>(&scores, ownScores + step / 8u, SCORE_LINE);
        /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
          let upstream = subgroupMatrixLoad<RightMatrix, row_major>(&staged, step * LINE + across * MATRIX_COLUMNS / 8u, LINE);
          dValue[across] = subgroupMatrixMultiplyAccumulate(weight, upstream, dValue[across]);
        }
      }
    }
    workgroupBarrier();
    for (var i = lane; i < BLOCK * SIZE_EIGHTS; i += LANES) {
      staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = queryEight(firstRow + i / SIZE_EIGHTS, i % SIZE_EIGHTS, keyHead, sharing);
    }
    workgroupBarrier();
    if (isSumming) {
      for (var step = 0u; step < BLOCK; step += MATRIX_STEPS) {
        let slope = subgroupMatrixLoad<LeftMatrix, row_major>(&slopes, ownScores + step / 8u, SCORE_LINE);
        /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
          let query = subgroupMatrixLoad<RightMatrix, row_major>(&staged, step * LINE + across * MATRIX_COLUMNS / 8u, LINE);
          dKey[across] = subgroupMatrixMultiplyAccumulate(slope, query, dKey[across]);
        }
      }
    }
    workgroupBarrier();
  }

  /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
    if (isSumming) { subgroupMatrixStore<row_major>(&staged, ownSums, dKey[across], MATRIX_COLUMNS / 4u); }
    workgroupBarrier();
    for (var i = lane; i < 4u * SUBGROUPS * MATRIX_FOURS; i += LANES) {
      let slot = first + i / MATRIX_COLUMNS;
      let column = across * MATRIX_COLUMNS + i % MATRIX_COLUMNS;
      if (slot < params.slots && column < params.headSize) { dKeys[params.dKeysBase + placeIn(slot, column, keyHead)] = bitcast<f32>(staged[i / 4u][i % 4u]); }
    }
    workgroupBarrier();
    if (isSumming) { subgroupMatrixStore<row_major>(&staged, ownSums, dValue[across], MATRIX_COLUMNS / 4u); }
    workgroupBarrier();
    for (var i = lane; i < 4u * SUBGROUPS * MATRIX_FOURS; i += LANES) {
      let slot = first + i / MATRIX_COLUMNS;
      let column = across * MATRIX_COLUMNS + i % MATRIX_COLUMNS;
      if (slot < params.slots && column < params.headSize) { dValues[params.dValuesBase + placeIn(slot, column, keyHead)] = bitcast<f32>(staged[i / 4u][i % 4u]) / lift; }
    }
    workgroupBarrier();
  }
}

fn placeIn(slot: u32, column: u32, keyHead: u32) -> u32 {
  return (slot * params.keyHeads + keyHead) * params.headSize + column;
}

// Where four neighbouring sums of a key start.

fn keyStart(slot: u32, column: u32, keyHead: u32) -> vec4f {
  var four = vec4f(0.0);
  for (var j = 0u; j < 4u; j++) {
    if (params.addToDKeys != 0u && slot < params.slots && column + j < params.headSize) { four[j] = dKeys[params.dKeysBase + placeIn(slot, column + j, keyHead)]; }
  }
  return four;
}

fn valueStart(slot: u32, column: u32, keyHead: u32) -> vec4f {
  var four = vec4f(0.0);
  for (var j = 0u; j < 4u; j++) {
    if (params.addToDValues != 0u && slot < params.slots && column + j < params.headSize) { four[j] = lift * dValues[params.dValuesBase + placeIn(slot, column + j, keyHead)]; }
  }
  return four;
}

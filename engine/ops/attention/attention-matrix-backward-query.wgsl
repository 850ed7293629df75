// attentionMatrixBackwardQuery  attention-backward-query.wgsl with f16 operands, on matrix units: q, keys, values and dy are rounded
//             to f16, and so are the gradients of scores before they multiply keys. Scores, p and all sums are f32.
// Work       one workgroup per ROWS neighbouring (token, head) of a key head, heads fastest. Each of its SUBGROUPS subgroups has
//            MATRIX_ROWS of those rows, with their q, dy and sums in matrices; all share the tiles of keys and values.
// Method     by blocks of BLOCK keys, counted as in attention-matrix.wgsl: a row's bits depend on its own numbers alone. For rows
//            whose block holds other slots the gradients of scores are 0, which changes no bit of their sums.
// Cells      cells of slots continue the sum that is in dq. A cut between the keys of a block makes two blocks of it, and the last
//            bits may differ.
// Constants  as attention-matrix.wgsl. CONTINUES: whether dq may already hold a sum, or slots are cut. SUBGROUPS changes no bit.
// Memory     q, dy read and dq written once; keys and values once per tile and block.
// Edges      a key that a row does not see counts as nothing if it is finite. If it is not, rows of the same tile may become NaN too.
// Chosen     for operands "f16", if the adapter has matrix units for them.
@group(0) @binding(0) var<storage, read> q: array<Vector>;
@group(0) @binding(1) var<storage, read> keys: array<Vector>;
@group(0) @binding(2) var<storage, read> values: array<Vector>;
@group(0) @binding(3) var<storage, read> dy: array<Vector>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> spans: array<vec4u>;
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;

const none = 0xffffffffu;
const ROWS = MATRIX_ROWS * SUBGROUPS;
const SIZE_EIGHTS = STEPS_DEEP * MATRIX_STEPS / 8u;
// Lines in workgroup memory, counted in eights of halves or fours of f32. One more per line, for the banks.
const LINE = SIZE_EIGHTS + 1u;
const SCORE_LINE = BLOCK / 4u + 1u;
const MATRIX_FOURS = MATRIX_ROWS * MATRIX_COLUMNS / 4u;

/** q or dy of a subgroup; then keys or values of a block, [key, size of a head]; or one matrix of sums per subgroup (bits of f32). */
var<workgroup> staged: array<vec4u, max(max(BLOCK, MATRIX_ROWS) * LINE, SUBGROUPS * MATRIX_FOURS)>;
/** q · keys of a block, [row, key], bits of f32. */
var<workgroup> scores: array<vec4u, ROWS * SCORE_LINE>;
/** dy · values of a block; then, at the beginning of each row, gradients of the scores as halves. */
var<workgroup> slopes: array<vec4u, ROWS * SCORE_LINE>;
var<workgroup> nearest: atomic<u32>;
var<workgroup> most: atomic<u32>;
/** Where the keys of the block lie, as in placeOf; w is `none` if no row is left. */
var<workgroup> place: vec4u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(local_invocation_index) lane: u32) {
  let tile = flatWorkgroup(group, groups);
  let keyHead = tile % params.keyHeads;
  let sharing = params.heads / params.keyHeads;
  let first = tile / params.keyHeads * ROWS;
  let items = params.tokens * sharing;
  if (first >= items) { return; }
  // There are more subgroups than SUBGROUPS if the driver makes them smaller than the largest; the others only load and store.
  let isSumming = subgroup < SUBGROUPS;
  let ownScores = subgroup * MATRIX_ROWS * SCORE_LINE;
  let ownSums = subgroup * MATRIX_FOURS;
  if (lane == 0u) { atomicStore(&most, 0u); }

  // Invocation `lane` looks after row `lane`.
  let isRow = lane < ROWS && first + lane < items;
  let item = itemOf(min(first + lane, items - 1u), keyHead, sharing); // token · H + head
  let known = statistics[params.statisticsBase / 2u + item];
  var span = spans[params.spansBase / 4u + item / params.heads];
  if (!isRow) { span.w = 0u; }

  var query: array<LeftMatrix, STEPS_DEEP>;
  var upstream: array<LeftMatrix, STEPS_DEEP>;
  var gradient: array<SumMatrix, COLUMNS_ACROSS>;
  for (var owner = 0u; owner < SUBGROUPS; owner++) {
    for (var i = lane; i < MATRIX_ROWS * SIZE_EIGHTS; i += LANES) {
      staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = queryEight(first + owner * MATRIX_ROWS + i / SIZE_EIGHTS, i % SIZE_EIGHTS, keyHead, sharing);
    }
    workgroupBarrier();
    if (subgroup == owner) {
      /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
        query[step] = subgroupMatrixLoad<LeftMatrix, row_major>(&staged, step * MATRIX_STEPS / 8u, LINE);
      }
    }
    workgroupBarrier();
    for (var i = lane; i < MATRIX_ROWS * SIZE_EIGHTS; i += LANES) {
      staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = upstreamEight(first + owner * MATRIX_ROWS + i / SIZE_EIGHTS, i % SIZE_EIGHTS, keyHead, sharing);
    }
    workgroupBarrier();
    if (subgroup == owner) {
      /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
        upstream[step] = subgroupMatrixLoad<LeftMatrix, row_major>(&staged, step * MATRIX_STEPS / 8u, LINE);
      }
    }
    workgroupBarrier();
  }
  if (CONTINUES && params.addToDq != 0u) {
    /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
      for (var i = lane; i < SUBGROUPS * MATRIX_FOURS; i += LANES) {
        let row = first + i / (MATRIX_COLUMNS / 4u);
        let column = across * MATRIX_COLUMNS + i % (MATRIX_COLUMNS / 4u) * 4u;
        var four = vec4f(0.0);
        for (var j = 0u; j < 4u; j++) {
          if (row < items && column + j < params.headSize) {
            four[j] = dq[params.dqBase + itemOf(row, keyHead, sharing) * params.headSize + column + j];
          }
        }
        staged[i] = bitcast<vec4u>(four);
      }
      workgroupBarrier();
      if (isSumming) { gradient[across] = subgroupMatrixLoad<SumMatrix, row_major>(&staged, ownSums, MATRIX_COLUMNS / 4u); }
      workgroupBarrier();
    }
  }

  if (isRow) { atomicMax(&most, (span.w + BLOCK - 1u) / BLOCK); }
  let blocks = workgroupUniformLoad(&most);
  for (var block = 0u; block < blocks; block++) {
    let own = placeOf(span, block * BLOCK);
    let seen = seenOf(span, own, block * BLOCK);
    var isWaiting = seen != 0u;
    loop {
      if (lane == 0u) {
        atomicStore(&nearest, none);
        place = vec4u(none);
      }
      workgroupBarrier();
      if (isWaiting) { atomicMin(&nearest, lane); }
      workgroupBarrier();
      if (isWaiting && atomicLoad(&nearest) == lane) { place = vec4u(own, 0u); }
      let here = workgroupUniformLoad(&place);
      if (here.w == none) { break; }
      let isMember = isWaiting && all(own == here.xyz);
      isWaiting = isWaiting && !isMember;

      for (var i = lane; i < BLOCK * SIZE_EIGHTS; i += LANES) {
        staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = valueEight(slotOf(here.xyz, i / SIZE_EIGHTS) - params.slotsStart, i % SIZE_EIGHTS, keyHead);
      }
      workgroupBarrier();
      if (isSumming) {
        for (var column = 0u; column < BLOCK; column += MATRIX_COLUMNS) {
          var products = SumMatrix();
          /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
            let value = subgroupMatrixLoad<RightMatrix, col_major>(&staged, column * LINE + step * MATRIX_STEPS / 8u, LINE);
            products = subgroupMatrixMultiplyAccumulate(upstream[step], value, products);
          }
          subgroupMatrixStore<row_major>(&slopes, ownScores + column / 4u, products, SCORE_LINE);
        }
      }
      workgroupBarrier();
      for (var i = lane; i < BLOCK * SIZE_EIGHTS; i += LANES) {
        staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = keyEight(slotOf(here.xyz, i / SIZE_EIGHTS) - params.slotsStart, i % SIZE_EIGHTS, keyHead);
      }
      workgroupBarrier();
      if (isSumming) {
        for (var column = 0u; column < BLOCK; column += MATRIX_COLUMNS) {
          var products = SumMatrix();
          /* @unroll */ for (var step = 0u; step < STEPS_DEEP; step++) {
            let key = subgroupMatrixLoad<RightMatrix, col_major>(&staged, column * LINE + step * MATRIX_STEPS / 8u, LINE);
            products = subgroupMatrixMultiplyAccumulate(query[step], key, products);
          }
          subgroupMatrixStore<row_major>(&scores, ownScores + column / 4u, products, SCORE_LINE);
        }
      }
      workgroupBarrier();

      if (lane < ROWS) {
        let line = lane * SCORE_LINE;
        let visible = select(0u, seen, isMember);
        for (var eight = 0u; eight < BLOCK / 8u; eight++) {
          var words = vec4u(0u);
          /* @unroll */ for (var j = 0u; j < 2u; j++) {
            let score = bitcast<vec4f>(scores[line + 2u * eight + j]) * params.scale;
            let product = bitcast<vec4f>(slopes[line + 2u * eight + j]);
            let slope = params.scale * exp(score - known.x) * (product - known.y);
            let isSeen = ((vec4u(visible) >> (8u * eight + 4u * j + vec4u(0u, 1u, 2u, 3u))) & vec4u(1u)) != vec4u(0u);
            let four = select(vec4f(), slope, isSeen);
            words[2u * j] = halvesOf(four.xy);
            words[2u * j + 1u] = halvesOf(four.zw);
          }
          slopes[line + eight] = words; // in place: these lie where products were read already
        }
      }
      workgroupBarrier();
      if (isSumming) {
        for (var step = 0u; step < BLOCK; step += MATRIX_STEPS) {
          let slope = subgroupMatrixLoad<LeftMatrix, row_major>(&slopes, ownScores + step / 8u, SCORE_LINE);
          /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
            let key = subgroupMatrixLoad<RightMatrix, row_major>(&staged, step * LINE + across * MATRIX_COLUMNS / 8u, LINE);
            gradient[across] = subgroupMatrixMultiplyAccumulate(slope, key, gradient[across]);
          }
        }
      }
      workgroupBarrier();
    }
  }

  /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
    if (isSumming) { subgroupMatrixStore<row_major>(&staged, ownSums, gradient[across], MATRIX_COLUMNS / 4u); }
    workgroupBarrier();
    for (var i = lane; i < 4u * SUBGROUPS * MATRIX_FOURS; i += LANES) {
      let row = first + i / MATRIX_COLUMNS;
      let column = across * MATRIX_COLUMNS + i % MATRIX_COLUMNS;
      if (row < items && column < params.headSize) {
        dq[params.dqBase + itemOf(row, keyHead, sharing) * params.headSize + column] = bitcast<f32>(staged[i / 4u][i % 4u]);
      }
    }
    workgroupBarrier();
  }
}

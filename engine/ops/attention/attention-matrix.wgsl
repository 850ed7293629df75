// attentionMatrix  the forward pass of attention.wgsl with f16 operands, on matrix units: q, keys and values are rounded to f16,
//                  and so are the weights p before they multiply values. Scores, references, Σ p and sums of values are f32.
// Work       one workgroup per ROWS neighbouring (token, head) of a key head, heads fastest. Each of its SUBGROUPS subgroups has
//            MATRIX_ROWS of those rows, with their q and their sums in matrices; all share the tiles of keys and values.
// Method     online softmax by blocks of BLOCK keys. Block b holds a token's own keys b · BLOCK, … in the order in which the token
//            sees them, across both runs of slots. Rows whose block holds the same slots are processed together; for all
//            other rows its weights are 0, which changes no bit of their sums. So a row's bits depend on its own numbers alone:
//            not on the batch, nor on where its keys lie, nor on how they are split in two runs.
//            Scores reach the softmax through workgroup memory, since a result cannot become an operand. The reference moves
//            to a block's highest score if that exceeds it by `room`. Only then are sums rescaled, through memory too.
//            Weights are multiplied by `lift`, so that small ones stay above f16's smallest normal number.
// Cells      state as in attention.wgsl, sums of values with `lift`. A cut between the keys of a block makes two blocks of it,
//            and the last bits may differ.
// Constants  MATRIX_…: the shape. SUBGROUPS; BLOCK: at most 32, a multiple of the shape's columns and steps. STEPS_DEEP and
//            COLUMNS_ACROSS: matrices along a head, padded with zeros. Vector: vec4f | vec2f, of WIDTH numbers, divides a head.
//            LANES: invocations. CONTINUES: whether there are several cells of slots. SUBGROUPS changes no bit.
// Memory     q read and y written once; keys and values once per tile and block.
// Edges      a key that a row does not see counts as nothing, whatever it holds. What is not finite in f16 (q, a key or value that
//            a row sees) makes the row's whole head NaN. Else an infinite score could pass for a weight of 0.
// Chosen     for operands "f16", if the adapter has matrix units for them.
@group(0) @binding(0) var<storage, read> q: array<Vector>;
@group(0) @binding(1) var<storage, read> keys: array<Vector>;
@group(0) @binding(2) var<storage, read> values: array<Vector>;
@group(0) @binding(3) var<storage, read> spans: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> logSumExp: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

const room = 4.0;
const lift = 1024.0; // e^room · lift is below f16's largest number
const lowest = -3.0e38;
const none = 0xffffffffu;
const ROWS = MATRIX_ROWS * SUBGROUPS;
const SIZE_EIGHTS = STEPS_DEEP * MATRIX_STEPS / 8u;
// Lines in workgroup memory, counted in eights of halves or fours of f32. One more per line, for the banks.
const LINE = SIZE_EIGHTS + 1u;
const SCORE_LINE = BLOCK / 4u + 1u;
const MATRIX_FOURS = MATRIX_ROWS * MATRIX_COLUMNS / 4u;

/** q of a subgroup; then keys or values of a block, [key, size of a head]; or one matrix of sums per subgroup (bits of f32). */
var<workgroup> staged: array<vec4u, max(max(BLOCK, MATRIX_ROWS) * LINE, SUBGROUPS * MATRIX_FOURS)>;
/** Scores of a block, [row, key], bits of f32; then, at the beginning of each row, its weights as halves. */
var<workgroup> scores: array<vec4u, ROWS * SCORE_LINE>;
/** What each row's sums are multiplied by. */
var<workgroup> factors: array<f32, ROWS>;
var<workgroup> nearest: atomic<u32>;
var<workgroup> most: atomic<u32>;
var<workgroup> moving: atomic<u32>;
/** Bit c: the value of the block's key c is not finite. */
var<workgroup> lostKeys: atomic<u32>;
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

  // Invocation `lane` looks after the softmax of row `lane`.
  let isRow = lane < ROWS && first + lane < items;
  let item = itemOf(min(first + lane, items - 1u), keyHead, sharing); // token · H + head
  var span = spans[params.spansBase / 4u + item / params.heads];
  if (!isRow) { span.w = 0u; }
  var reference = lowest;
  var sum = 0.0;
  var lost = 0.0;
  if (CONTINUES && params.slotsStart > 0u && isRow) {
    reference = logSumExp[params.logSumExpBase + item];
    sum = sums[params.sumsBase + item];
  }

  var query: array<LeftMatrix, STEPS_DEEP>;
  var mixed: array<SumMatrix, COLUMNS_ACROSS>;
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
  }
  if (CONTINUES && params.slotsStart > 0u) {
    /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
      for (var i = lane; i < SUBGROUPS * MATRIX_FOURS; i += LANES) {
        let row = first + i / (MATRIX_COLUMNS / 4u);
        let column = across * MATRIX_COLUMNS + i % (MATRIX_COLUMNS / 4u) * 4u;
        var four: vec4f;
        for (var j = 0u; j < 4u; j++) {
          four[j] = 0.0;
          if (row < items && column + j < params.headSize) {
            four[j] = y[params.yBase + itemOf(row, keyHead, sharing) * params.headSize + column + j];
          }
        }
        staged[i] = bitcast<vec4u>(four);
      }
      workgroupBarrier();
      if (isSumming) { mixed[across] = subgroupMatrixLoad<SumMatrix, row_major>(&staged, ownSums, MATRIX_COLUMNS / 4u); }
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
        atomicStore(&moving, 0u);
        atomicStore(&lostKeys, 0u);
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
        staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = keyEight(slotOf(here.xyz, i / SIZE_EIGHTS), i % SIZE_EIGHTS, keyHead);
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
        var highest = lowest;
        for (var i = 0u; i < BLOCK / 4u; i++) {
          let four = bitcast<vec4f>(scores[line + i]) * params.scale;
          for (var j = 0u; j < 4u; j++) {
            if (((visible >> (4u * i + j)) & 1u) != 0u) { highest = max(highest, four[j]); }
          }
        }
        var factor = 1.0;
        if (highest > reference + room) {
          if (reference != lowest) { // until then there is nothing to rescale
            factor = exp(reference - highest);
            sum *= factor;
            atomicStore(&moving, 1u);
          }
          reference = highest;
        }
        factors[lane] = factor;
        for (var eight = 0u; eight < BLOCK / 8u; eight++) {
          let low = bitcast<vec4f>(scores[line + 2u * eight]) * params.scale;
          let high = bitcast<vec4f>(scores[line + 2u * eight + 1u]) * params.scale;
          var weights: array<f32, 8>;
          /* @unroll */ for (var j = 0u; j < 8u; j++) {
            weights[j] = 0.0;
            if (((visible >> (8u * eight + j)) & 1u) != 0u) {
              let difference = select(low[j % 4u], high[j % 4u], j >= 4u) - reference;
              weights[j] = exp(difference);
              sum += weights[j];
              lost += difference;
            }
          }
          // In place: these weights lie where scores were read already.
          scores[line + eight] = vec4u(
            pack2x16float(lift * vec2f(weights[0], weights[1])), pack2x16float(lift * vec2f(weights[2], weights[3])),
            pack2x16float(lift * vec2f(weights[4], weights[5])), pack2x16float(lift * vec2f(weights[6], weights[7])));
        }
      }
      if (workgroupUniformLoad(&moving) != 0u) { // seldom
        /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
          if (isSumming) { subgroupMatrixStore<row_major>(&staged, ownSums, mixed[across], MATRIX_COLUMNS / 4u); }
          workgroupBarrier();
          for (var i = lane; i < SUBGROUPS * MATRIX_FOURS; i += LANES) {
            let factor = factors[i / (MATRIX_COLUMNS / 4u)];
            if (factor != 1.0) {
              let scaled = bitcast<vec4f>(staged[i]) * factor;
              // Denormal numbers would be flushed or not, depending on how often other rows are processed.
              staged[i] = bitcast<vec4u>(select(scaled, vec4f(), abs(scaled) < vec4f(1.0e-30)));
            }
          }
          workgroupBarrier();
          if (isSumming) { mixed[across] = subgroupMatrixLoad<SumMatrix, row_major>(&staged, ownSums, MATRIX_COLUMNS / 4u); }
          workgroupBarrier();
        }
      }

      for (var i = lane; i < BLOCK * SIZE_EIGHTS; i += LANES) {
        let words = valueEight(slotOf(here.xyz, i / SIZE_EIGHTS), i % SIZE_EIGHTS, keyHead);
        // Its product with a weight of 0 would be NaN, also in rows that do not see it.
        let isLost = any(((words & vec4u(0x7c00u)) == vec4u(0x7c00u)) | ((words & vec4u(0x7c000000u)) == vec4u(0x7c000000u)));
        if (isLost) { atomicOr(&lostKeys, 1u << (i / SIZE_EIGHTS)); }
        staged[i / SIZE_EIGHTS * LINE + i % SIZE_EIGHTS] = select(words, vec4u(), isLost);
      }
      workgroupBarrier();
      if (isMember && (atomicLoad(&lostKeys) & seen) != 0u) { lost = notANumber(); }
      if (isSumming) {
        for (var step = 0u; step < BLOCK; step += MATRIX_STEPS) {
          let weight = subgroupMatrixLoad<LeftMatrix, row_major>(&scores, ownScores + step / 8u, SCORE_LINE);
          /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
            let value = subgroupMatrixLoad<RightMatrix, row_major>(&staged, step * LINE + across * MATRIX_COLUMNS / 8u, LINE);
            mixed[across] = subgroupMatrixMultiplyAccumulate(weight, value, mixed[across]);
          }
        }
      }
      workgroupBarrier();
    }
  }

  let isLast = params.slotsStart + params.slots == params.slotsTotal;
  if (isRow) {
    let total = select(notANumber(), sum, isFinite(lost));
    let seesNone = isLast && span.w == 0u;
    factors[lane] = select(select(1.0, 1.0 / (lift * total), isLast), 0.0, seesNone);
    let closed = select(reference + log(total), total, isNaN(total));
    var negativeInfinity = 0xff800000u; // a variable: WGSL refuses constants that are infinite
    logSumExp[params.logSumExpBase + item] = select(select(reference, closed, isLast), bitcast<f32>(negativeInfinity), seesNone);
    if (CONTINUES) { sums[params.sumsBase + item] = total; }
  }
  /* @unroll */ for (var across = 0u; across < COLUMNS_ACROSS; across++) {
    if (isSumming) { subgroupMatrixStore<row_major>(&staged, ownSums, mixed[across], MATRIX_COLUMNS / 4u); }
    workgroupBarrier();
    for (var i = lane; i < 4u * SUBGROUPS * MATRIX_FOURS; i += LANES) {
      let row = i / MATRIX_COLUMNS;
      let column = across * MATRIX_COLUMNS + i % MATRIX_COLUMNS;
      if (first + row < items && column < params.headSize) {
        y[params.yBase + itemOf(first + row, keyHead, sharing) * params.headSize + column] = bitcast<f32>(staged[i / 4u][i % 4u]) * factors[row];
      }
    }
    workgroupBarrier();
  }
}

/** token · H + head of a (token, head) of the key head. */
fn itemOf(row: u32, keyHead: u32, sharing: u32) -> u32 {
  return row / sharing * params.heads + keyHead * sharing + row % sharing;
}

// Eight neighbouring numbers of a head as halves; those past the head are 0, and so is a whole line outside of the cell.

fn queryEight(row: u32, eight: u32, keyHead: u32, sharing: u32) -> vec4u {
  var words = vec4u(0u); // written out: a `var` of a loop may keep its last value, and callers loop
  if (row < params.tokens * sharing) {
    let start = params.qBase + itemOf(row, keyHead, sharing) * params.headSize;
    /* @unroll */ for (var i = 0u; i < 4u; i++) {
      let number = 8u * eight + 2u * i;
      if (number < params.headSize) {
        let part = q[(start + number) / WIDTH];
        words[i] = halvesOf(vec2f(part[2u * i % WIDTH], part[2u * i % WIDTH + 1u]));
      }
    }
  }
  return words;
}

fn keyEight(slot: u32, eight: u32, keyHead: u32) -> vec4u {
  var words = vec4u(0u); // written out: a `var` of a loop may keep its last value, and callers loop
  if (slot - params.slotsStart < params.slots) {
    let start = params.keysBase + ((slot - params.slotsStart) * params.keyHeads + keyHead) * params.headSize;
    /* @unroll */ for (var i = 0u; i < 4u; i++) {
      let number = 8u * eight + 2u * i;
      if (number < params.headSize) {
        let part = keys[(start + number) / WIDTH];
        words[i] = halvesOf(vec2f(part[2u * i % WIDTH], part[2u * i % WIDTH + 1u]));
      }
    }
  }
  return words;
}

fn valueEight(slot: u32, eight: u32, keyHead: u32) -> vec4u {
  var words = vec4u(0u); // written out: a `var` of a loop may keep its last value, and callers loop
  if (slot - params.slotsStart < params.slots) {
    let start = params.valuesBase + ((slot - params.slotsStart) * params.keyHeads + keyHead) * params.headSize;
    /* @unroll */ for (var i = 0u; i < 4u; i++) {
      let number = 8u * eight + 2u * i;
      if (number < params.headSize) {
        let part = values[(start + number) / WIDTH];
        words[i] = halvesOf(vec2f(part[2u * i % WIDTH], part[2u * i % WIDTH + 1u]));
      }
    }
  }
  return words;
}

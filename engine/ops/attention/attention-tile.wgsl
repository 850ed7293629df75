enable subgroups; diagnostic(off, subgroup_uniformity);
// attentionTile  the same as attention.wgsl, to the same bits: y, logSumExp and the state between cells of slots.
// Work       one subgroup of 8 per workgroup, for 8 · ROWS queries of one key head: neighbouring (token, head), heads fastest.
//            The 8 lanes load a piece of 8 numbers of a key and broadcast each number to 8 · ROWS products. On lavapipe a load
//            costs about 30 cycles, a broadcast one.
// Keys       queries whose run of slots begins at the same slot are processed together (key-runs.wgsl). Each stops at its own
//            limit; after that it keeps its sums, whatever the key holds.
// Uniformity all lanes reach all subgroup operations: loop bounds are the same in all lanes.
// Constants  PIECES: head size / 8. ROWS: 2, or 1 for heads above 64; with 4, registers spill and the kernel is half as fast.
//            CONTINUES: whether there are several cells of slots.
// Stored     keys and values are f32, or f16 in words: see the key loads in `uses`. So is y, if one cell holds all slots: see the
//            output. All arithmetic is f32.
// Chosen     on lavapipe, if the head size is a multiple of 8; over a cache also from 32 on, or from 3 tokens of each sequence on.
// Measured   14 query and 2 key heads of 64, 2 sequences of 128: 2.5 ms, 24 GFLOP/s (attention.wgsl: 17 to 24 ms); decoding 16
//            rows at 256 keys: 0.75 ms (5.9). Compiles in a fifth of the time of attention.wgsl. Mesa 25.0.7, 2 cores (Zen 4);
//            node bench/run.ts "attention forward" --adapter lavapipe.
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<Stored>;
@group(0) @binding(2) var<storage, read> values: array<Stored>;
@group(0) @binding(3) var<storage, read> spans: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> y: array<Output>;
@group(0) @binding(5) var<storage, read_write> logSumExp: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

const room = 8.0;
const lowest = -3.0e38;
const SIZE = 8u * PIECES; // numbers of a head

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = flatWorkgroup(group, groups);
  let keyHead = tile % params.keyHeads;
  let sharing = params.heads / params.keyHeads;
  let first = tile / params.keyHeads * 8u * ROWS;
  let items = params.tokens * sharing;
  if (first >= items) { return; }

  var query: array<f32, ROWS * SIZE>;
  var mixed: array<f32, ROWS * SIZE>;
  var item: array<u32, ROWS>; // token · H + head
  var runs: Runs;
  var reference: array<f32, ROWS>;
  var sum: array<f32, ROWS>;
  var lost: array<f32, ROWS>;
  let continues = CONTINUES && params.slotsStart > 0u;
  for (var r = 0u; r < ROWS; r++) {
    let place = min(first + r * 8u + lane, items - 1u);
    let token = place / sharing;
    item[r] = token * params.heads + keyHead * sharing + place % sharing;
    runs.span[r] = spans[params.spansBase / 4u + token];
    reference[r] = lowest;
    if (continues) {
      reference[r] = logSumExp[params.logSumExpBase + item[r]];
      sum[r] = sums[params.sumsBase + item[r]];
    }
    for (var d = 0u; d < SIZE; d++) {
      query[r * SIZE + d] = q[params.qBase + item[r] * SIZE + d];
      if (continues) { mixed[r * SIZE + d] = storedState(params.yBase + item[r] * SIZE + d); }
    }
  }

  let stride = params.keyHeads * SIZE;
  let slotsEnd = params.slotsStart + params.slots;
  for (var run = 0u; run < 2u; run++) {
    openRun(&runs, run, params.slotsStart, slotsEnd);
    while (nextRange(&runs)) {
      let offset = (runs.start - params.slotsStart) * stride + keyHead * SIZE + lane;
      var key = params.keysBase + offset;
      var value = params.valuesBase + offset;
      for (var slot = runs.start; slot < runs.stop; slot++) {
        var products: array<vec4f, ROWS>;
        for (var r = 0u; r < ROWS; r++) { products[r] = vec4f(); } // a declaration alone keeps the last round's values on every driver
        /* @unroll */ for (var i = 0u; i < PIECES; i++) {
          let part = keyAt(key + i * 8u);
          /* @unroll */ for (var j = 0u; j < 8u; j++) {
            let one = subgroupBroadcast(part, j);
            /* @unroll */ for (var r = 0u; r < ROWS; r++) {
              products[r][j % 4u] = fma(query[r * SIZE + i * 8u + j], one, products[r][j % 4u]);
            }
          }
        }
        var weight: array<f32, ROWS>;
        var isSeen: array<bool, ROWS>;
        var factor: array<f32, ROWS>;
        var moves = false;
        /* @unroll */ for (var r = 0u; r < ROWS; r++) {
          isSeen[r] = slot < runs.limit[r];
          let score = dot(products[r], vec4f(1.0)) * params.scale;
          let isAbove = isSeen[r] && score > reference[r] + room;
          factor[r] = select(1.0, exp(reference[r] - score), isAbove);
          reference[r] = select(reference[r], score, isAbove);
          moves = moves || isAbove;
          let difference = score - reference[r];
          weight[r] = exp(difference);
          if (isSeen[r]) {
            sum[r] = sum[r] * factor[r] + weight[r];
            lost[r] += difference;
          }
        }
        if (subgroupAny(moves)) { // hardly ever
          for (var r = 0u; r < ROWS; r++) {
            for (var d = 0u; d < SIZE; d++) { mixed[r * SIZE + d] *= factor[r]; }
          }
        }
        /* @unroll */ for (var i = 0u; i < PIECES; i++) {
          let part = valueAt(value + i * 8u);
          /* @unroll */ for (var j = 0u; j < 8u; j++) {
            let one = subgroupBroadcast(part, j);
            /* @unroll */ for (var r = 0u; r < ROWS; r++) {
              if (isSeen[r]) { mixed[r * SIZE + i * 8u + j] = fma(weight[r], one, mixed[r * SIZE + i * 8u + j]); }
            }
          }
        }
        key += stride;
        value += stride;
      }
    }
  }

  let isLast = slotsEnd == params.slotsTotal;
  var negativeInfinity = 0xff800000u; // a variable: WGSL refuses constants that are infinite
  for (var r = 0u; r < ROWS; r++) {
    if (first + r * 8u + lane >= items) { continue; }
    let total = select(sum[r], lost[r], isNaN(lost[r]));
    let seesNone = isLast && runs.span[r].w == 0u;
    let scale = select(select(1.0, 1.0 / total, isLast), 0.0, seesNone);
    let closed = select(reference[r] + log(total), total, isNaN(total));
    logSumExp[params.logSumExpBase + item[r]] = select(select(reference[r], closed, isLast), bitcast<f32>(negativeInfinity), seesNone);
    if (CONTINUES) { sums[params.sumsBase + item[r]] = total; }
    for (var d = 0u; d < SIZE; d += 4u) {
      let at = r * SIZE + d;
      storeFour(params.yBase + item[r] * SIZE + d, vec4f(mixed[at], mixed[at + 1u], mixed[at + 2u], mixed[at + 3u]) * scale);
    }
  }
}

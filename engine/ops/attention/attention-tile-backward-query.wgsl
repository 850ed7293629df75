enable subgroups; diagnostic(off, subgroup_uniformity);
// attentionTileBackwardQuery  the same as attention-backward-query.wgsl, to the same bits.
// Work       as attention-tile.wgsl: one subgroup of 8 for 8 · ROWS queries of one key head. A load brings a four of a key or value to
//            every lane: 32 numbers, which are broadcast to all queries; those of the key twice. The two products follow each other,
//            so that only one of them needs registers for its sums.
// Constants  PIECES, ROWS as in attention-tile.wgsl. LOADS: fours of a head / 8, rounded up. CONTINUES: whether dq may already hold a
//            sum.
// Order      of workgroups: balanced.wgsl.
// Chosen     on lavapipe, if the head size is a multiple of 8 above 32.
// Measured   with attention-tile-backward-key.wgsl, 14 query and 2 key heads of 64, 2 sequences of 128: 7.2 ms, 29 GFLOP/s. The
//            plain kernels need 47 ms and five times as long to compile; node bench/run.ts "attention backward". Since then, loads in
//            fours and four rows of queries: about 1.3 times less processor time (docs/performance.md).
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<vec4f>;
@group(0) @binding(2) var<storage, read> values: array<vec4f>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> spans: array<vec4u>;
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;

const SIZE = 8u * PIECES;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sharing = params.heads / params.keyHeads;
  let items = params.tokens * sharing;
  let tile = balanced(flatWorkgroup(group, groups), params.keyHeads * ((items + 8u * ROWS - 1u) / (8u * ROWS)));
  let keyHead = tile % params.keyHeads;
  let first = tile / params.keyHeads * 8u * ROWS;
  if (first >= items) { return; }

  var query: array<f32, ROWS * SIZE>;
  var upstream: array<f32, ROWS * SIZE>;
  var gradient: array<f32, ROWS * SIZE>;
  var item: array<u32, ROWS>; // token · H + head
  var runs: Runs;
  var known: array<vec2f, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    let place = min(first + r * 8u + lane, items - 1u);
    let token = place / sharing;
    item[r] = token * params.heads + keyHead * sharing + place % sharing;
    runs.span[r] = spans[params.spansBase / 4u + token];
    known[r] = statistics[params.statisticsBase / 2u + item[r]];
    for (var d = 0u; d < SIZE; d++) {
      query[r * SIZE + d] = q[params.qBase + item[r] * SIZE + d];
      upstream[r * SIZE + d] = dy[params.dyBase + item[r] * SIZE + d];
      if (CONTINUES && params.addToDq != 0u) { gradient[r * SIZE + d] = dq[params.dqBase + item[r] * SIZE + d]; }
    }
  }

  let stride = params.keyHeads * SIZE;
  for (var run = 0u; run < 2u; run++) {
    openRun(&runs, run, params.slotsStart, params.slotsStart + params.slots);
    while (nextRange(&runs)) {
      let offset = ((runs.start - params.slotsStart) * stride + keyHead * SIZE) / 4u;
      var key = params.keysBase / 4u + offset;
      var value = params.valuesBase / 4u + offset;
      for (var slot = runs.start; slot < runs.stop; slot++) {
        var parts: array<vec4f, LOADS>;
        var valueParts: array<vec4f, LOADS>;
        /* @unroll */ for (var i = 0u; i < LOADS; i++) {
          let four = min(8u * i + lane, SIZE / 4u - 1u);
          parts[i] = keys[key + four];
          valueParts[i] = values[value + four];
        }
        let products = productsWith(parts, &query);
        let weightProducts = productsWith(valueParts, &upstream);
        var dScore: array<f32, ROWS>;
        /* @unroll */ for (var r = 0u; r < ROWS; r++) {
          let weight = exp(products[r] * params.scale - known[r].x);
          dScore[r] = params.scale * weight * (weightProducts[r] - known[r].y);
        }
        /* @unroll */ for (var i = 0u; i < PIECES; i++) {
          /* @unroll */ for (var j = 0u; j < 8u; j++) {
            let one = subgroupBroadcast(parts[i / 4u][j % 4u], i % 4u * 2u + j / 4u);
            /* @unroll */ for (var r = 0u; r < ROWS; r++) {
              if (slot < runs.limit[r]) { gradient[r * SIZE + i * 8u + j] = fma(dScore[r], one, gradient[r * SIZE + i * 8u + j]); }
            }
          }
        }
        key += stride / 4u;
        value += stride / 4u;
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (first + r * 8u + lane >= items) { continue; }
    for (var d = 0u; d < SIZE; d++) { dq[params.dqBase + item[r] * SIZE + d] = gradient[r * SIZE + d]; }
  }
}

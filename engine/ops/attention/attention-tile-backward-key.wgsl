enable subgroups; diagnostic(off, subgroup_uniformity);
// attentionTileBackwardKey  the same as attention-backward-key.wgsl, to the same bits.
// Work       one subgroup of 8 for 8 · ROWS neighbouring keys of one key head, one key per lane and r. Together they loop over the
//            queries that any of them sees. A load brings a four of q or dy to every lane: 32 numbers, each of which is broadcast twice,
//            each time to all keys. The sums of one key of each lane are fetched and stored one after the other.
// Tokens     a key ignores the queries outside its own range; tokens that no key of the tile sees are skipped.
// Constants  PIECES, ROWS as in attention-tile.wgsl. LOADS: fours of a head / 8, rounded up. CONTINUES: whether dKeys or dValues may
//            already hold sums.
// Order      of workgroups: balanced.wgsl.
// Chosen     on lavapipe, for heads of a multiple of 8 above 32.
// Measured   see attention-tile-backward-query.wgsl.
@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> keys: array<f32>;
@group(0) @binding(2) var<storage, read> values: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> querySpans: array<vec2u>;
@group(0) @binding(6) var<storage, read_write> dKeys: array<f32>;
@group(0) @binding(7) var<storage, read_write> dValues: array<f32>;

const SIZE = 8u * PIECES;
const none = 0xffffffffu;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = balanced(flatWorkgroup(group, groups), params.keyHeads * ((params.slots + 8u * ROWS - 1u) / (8u * ROWS)));
  let keyHead = tile % params.keyHeads;
  let sharing = params.heads / params.keyHeads;
  let firstSlot = tile / params.keyHeads * 8u * ROWS;
  if (firstSlot >= params.slots) { return; }

  var key: array<f32, ROWS * SIZE>;
  var value: array<f32, ROWS * SIZE>;
  var dKey: array<f32, ROWS * SIZE>;
  var dValue: array<f32, ROWS * SIZE>;
  var item: array<u32, ROWS>; // slot · K + key head
  var begin: array<u32, ROWS>;
  var end: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    let slot = min(firstSlot + r * 8u + lane, params.slots - 1u);
    item[r] = slot * params.keyHeads + keyHead;
    let range = querySpans[params.querySpansBase / 2u + slot];
    begin[r] = max(range.x, params.tokensStart);
    end[r] = min(range.x + range.y, params.tokensStart + params.tokens);
    for (var d = 0u; d < SIZE; d++) {
      key[r * SIZE + d] = keys[params.keysBase + item[r] * SIZE + d];
      value[r * SIZE + d] = values[params.valuesBase + item[r] * SIZE + d];
      if (CONTINUES) {
        dKey[r * SIZE + d] = select(0.0, dKeys[params.dKeysBase + item[r] * SIZE + d], params.addToDKeys != 0u);
        dValue[r * SIZE + d] = select(0.0, dValues[params.dValuesBase + item[r] * SIZE + d], params.addToDValues != 0u);
      }
    }
  }

  // From the first token that sees a key of the tile, as far as such tokens follow each other; then from the next such.
  var token = 0u;
  loop {
    var nearest = none;
    for (var r = 0u; r < ROWS; r++) {
      if (max(begin[r], token) < end[r]) { nearest = min(nearest, max(begin[r], token)); }
    }
    token = subgroupMin(nearest);
    if (token == none) { break; }
    var last = token;
    for (var r = 0u; r < ROWS; r++) { last = max(last, select(0u, end[r], begin[r] <= token)); }
    let stop = subgroupMax(last);
    for (; token < stop; token++) {
      let firstHead = (token - params.tokensStart) * params.heads + keyHead * sharing;
      for (var head = firstHead; head < firstHead + sharing; head++) {
        let queryStart = (params.qBase + head * SIZE) / 4u;
        let upstreamStart = (params.dyBase + head * SIZE) / 4u;
        let known = statistics[params.statisticsBase / 2u + head];
        var query: array<vec4f, LOADS>;
        var upstream: array<vec4f, LOADS>;
        /* @unroll */ for (var i = 0u; i < LOADS; i++) {
          let four = min(8u * i + lane, SIZE / 4u - 1u);
          query[i] = q[queryStart + four];
          upstream[i] = dy[upstreamStart + four];
        }
        let products = productsWith(query, &key);
        let weightProducts = productsWith(upstream, &value);
        var weight: array<f32, ROWS>;
        var dScore: array<f32, ROWS>;
        var isSeen: array<bool, ROWS>;
        /* @unroll */ for (var r = 0u; r < ROWS; r++) {
          isSeen[r] = begin[r] <= token && token < end[r];
          weight[r] = exp(products[r] * params.scale - known.x);
          dScore[r] = params.scale * weight[r] * (weightProducts[r] - known.y);
        }
        /* @unroll */ for (var r = 0u; r < ROWS; r++) {
          /* @unroll */ for (var i = 0u; i < PIECES; i++) {
            /* @unroll */ for (var j = 0u; j < 8u; j++) {
              let one = subgroupBroadcast(query[i / 4u][j % 4u], i % 4u * 2u + j / 4u);
              let oneUpstream = subgroupBroadcast(upstream[i / 4u][j % 4u], i % 4u * 2u + j / 4u);
              if (isSeen[r]) {
                dKey[r * SIZE + i * 8u + j] = fma(dScore[r], one, dKey[r * SIZE + i * 8u + j]);
                dValue[r * SIZE + i * 8u + j] = fma(weight[r], oneUpstream, dValue[r * SIZE + i * 8u + j]);
              }
            }
          }
        }
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (firstSlot + r * 8u + lane >= params.slots) { continue; }
    for (var d = 0u; d < SIZE; d++) {
      dKeys[params.dKeysBase + item[r] * SIZE + d] = dKey[r * SIZE + d];
      dValues[params.dValuesBase + item[r] * SIZE + d] = dValue[r * SIZE + d];
    }
  }
}

enable subgroups; diagnostic(off, subgroup_uniformity);
// attentionPairsBackwardKey  the same as attention-backward-key.wgsl, to the same bits.
// Work       one subgroup of 8 for 8 · ROWS neighbouring keys of one key head, one key per lane and r. Together they loop over the
//            queries that any of them sees, HEADS heads at a time. A load brings a four of q or dy to every lane: 32 numbers, each of
//            which is broadcast twice, each time to all keys.
// Tokens     a key ignores the queries outside its own range; tokens that no key of the tile sees are skipped.
// Order      of workgroups: balanced.wgsl.
// Constants  PIECES, ROWS as in attention-tile.wgsl. HEADS: 2 if that divides H/K, so that sums are fetched and stored half as often; else
//            1. LOADS: fours of HEADS heads / 8, rounded up. CONTINUES: whether dKeys or dValues may already hold sums.
// Chosen     on lavapipe, for heads of 8, 16, 24 and 32. Larger ones gain little, and take several times as long to compile.
// Measured   see attention-pairs-backward-query.wgsl.
@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> keys: array<vec4f>;
@group(0) @binding(2) var<storage, read> values: array<vec4f>;
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> querySpans: array<vec2u>;
@group(0) @binding(6) var<storage, read_write> dKeys: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> dValues: array<vec4f>;

const FOURS = 2u * PIECES; // of a head
const none = 0xffffffffu;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = balanced(flatWorkgroup(group, groups), params.keyHeads * ((params.slots + 8u * ROWS - 1u) / (8u * ROWS)));
  let keyHead = tile % params.keyHeads;
  let sharing = params.heads / params.keyHeads;
  let firstSlot = tile / params.keyHeads * 8u * ROWS;
  if (firstSlot >= params.slots) { return; }

  var key: array<vec4f, ROWS * FOURS>;
  var value: array<vec4f, ROWS * FOURS>;
  var dKey: array<vec4f, ROWS * FOURS>;
  var dValue: array<vec4f, ROWS * FOURS>;
  var item: array<u32, ROWS>; // slot · K + key head
  var begin: array<u32, ROWS>;
  var end: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    let slot = min(firstSlot + r * 8u + lane, params.slots - 1u);
    item[r] = slot * params.keyHeads + keyHead;
    let range = querySpans[params.querySpansBase / 2u + slot];
    begin[r] = max(range.x, params.tokensStart);
    end[r] = min(range.x + range.y, params.tokensStart + params.tokens);
    for (var f = 0u; f < FOURS; f++) {
      key[r * FOURS + f] = keys[params.keysBase / 4u + item[r] * FOURS + f];
      value[r * FOURS + f] = values[params.valuesBase / 4u + item[r] * FOURS + f];
      if (CONTINUES) {
        dKey[r * FOURS + f] = select(vec4f(), dKeys[params.dKeysBase / 4u + item[r] * FOURS + f], params.addToDKeys != 0u);
        dValue[r * FOURS + f] = select(vec4f(), dValues[params.dValuesBase / 4u + item[r] * FOURS + f], params.addToDValues != 0u);
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
      for (var head = firstHead; head < firstHead + sharing; head += HEADS) {
        let known = statistics[params.statisticsBase / 2u + head + min(lane, HEADS - 1u)];
        var query: array<vec4f, LOADS>;
        var upstream: array<vec4f, LOADS>;
        var products: array<vec4f, HEADS * ROWS>;
        var weightProducts: array<vec4f, HEADS * ROWS>;
        for (var i = 0u; i < HEADS * ROWS; i++) {
          products[i] = vec4f();
          weightProducts[i] = vec4f();
        }
        /* @unroll */ for (var i = 0u; i < LOADS; i++) {
          let four = head * FOURS + min(8u * i + lane, HEADS * FOURS - 1u);
          query[i] = q[params.qBase / 4u + four];
          upstream[i] = dy[params.dyBase / 4u + four];
        }
        /* @unroll */ for (var i = 0u; i < PIECES; i++) {
          /* @unroll */ for (var j = 0u; j < 2u; j++) {
            /* @unroll */ for (var h = 0u; h < HEADS; h++) {
              const four = h * FOURS + 2u * i + j;
              let one = subgroupBroadcast(query[four / 8u], four % 8u);
              let oneUpstream = subgroupBroadcast(upstream[four / 8u], four % 8u);
              /* @unroll */ for (var r = 0u; r < ROWS; r++) {
                const f = r * FOURS + 2u * i + j;
                products[h * ROWS + r] = fma(one, key[f], products[h * ROWS + r]);
                weightProducts[h * ROWS + r] = fma(oneUpstream, value[f], weightProducts[h * ROWS + r]);
              }
            }
          }
        }
        var weight: array<f32, HEADS * ROWS>;
        var dScore: array<f32, HEADS * ROWS>;
        /* @unroll */ for (var h = 0u; h < HEADS; h++) {
          let own = subgroupBroadcast(known, h);
          /* @unroll */ for (var r = 0u; r < ROWS; r++) {
            const i = h * ROWS + r;
            weight[i] = exp(dot(products[i], vec4f(1.0)) * params.scale - own.x);
            dScore[i] = params.scale * weight[i] * (dot(weightProducts[i], vec4f(1.0)) - own.y);
          }
        }
        /* @unroll */ for (var r = 0u; r < ROWS; r++) {
          if (begin[r] <= token && token < end[r]) {
            /* @unroll */ for (var i = 0u; i < PIECES; i++) {
              /* @unroll */ for (var j = 0u; j < 2u; j++) {
                const f = r * FOURS + 2u * i + j;
                var sum = dKey[f];
                var valueSum = dValue[f];
                /* @unroll */ for (var h = 0u; h < HEADS; h++) {
                  const four = h * FOURS + 2u * i + j;
                  sum = fma(vec4f(dScore[h * ROWS + r]), subgroupBroadcast(query[four / 8u], four % 8u), sum);
                  valueSum = fma(vec4f(weight[h * ROWS + r]), subgroupBroadcast(upstream[four / 8u], four % 8u), valueSum);
                }
                dKey[f] = sum;
                dValue[f] = valueSum;
              }
            }
          }
        }
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (firstSlot + r * 8u + lane >= params.slots) { continue; }
    for (var f = 0u; f < FOURS; f++) {
      dKeys[params.dKeysBase / 4u + item[r] * FOURS + f] = dKey[r * FOURS + f];
      dValues[params.dValuesBase / 4u + item[r] * FOURS + f] = dValue[r * FOURS + f];
    }
  }
}

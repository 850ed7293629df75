// attentionBackwardKey  dValues[s, k, :] = Σ_t,h p · dy[t, h, :]                                       (+ dValues)
//                       dKeys[s, k, :]   = Σ_t,h scale · p · (dy[t, h, :]·values[s, k, :] − Σ_d dy·y) · q[t, h, :]   (+ dKeys)
//                       over the tokens t of querySpans[s] and the heads h that read key head k, with
//                       p = exp(scale · q[t, h, :]·keys[s, k, :] − logSumExp[t, h]); logSumExp and Σ_d dy·y from statistics
// Work       one invocation per key and key head; it loops over the queries that see the key: no atomics.
// Constants  Vector: vec4f | vec2f, of WIDTH numbers; VECTORS of them make a head.
//            CONTINUES: whether dKeys or dValues may already hold sums; if not, loads that compile slowly are left out.
// Memory     each key reads q and dy of all its queries, from cache if neighbours share them.
// Precision  f32; queries in order, and per query its heads in order. Cells of tokens continue the sums, so cuts change no bit.
@group(0) @binding(0) var<storage, read> q: array<Vector>;
@group(0) @binding(1) var<storage, read> keys: array<Vector>;
@group(0) @binding(2) var<storage, read> values: array<Vector>;
@group(0) @binding(3) var<storage, read> dy: array<Vector>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> querySpans: array<vec2u>;
@group(0) @binding(6) var<storage, read_write> dKeys: array<Vector>;
@group(0) @binding(7) var<storage, read_write> dValues: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = flatWorkgroup(group, groups) * 64u + lane; // slot · K + key head
  if (item >= params.slots * params.keyHeads) { return; }
  let keyStart = params.keysBase / WIDTH + item * VECTORS;
  let valueStart = params.valuesBase / WIDTH + item * VECTORS;
  let dKeyStart = params.dKeysBase / WIDTH + item * VECTORS;
  let dValueStart = params.dValuesBase / WIDTH + item * VECTORS;
  var key: array<Vector, VECTORS>;
  var value: array<Vector, VECTORS>;
  var dKey: array<Vector, VECTORS>;
  var dValue: array<Vector, VECTORS>;
  var query: array<Vector, VECTORS>;
  var upstream: array<Vector, VECTORS>;
  /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
    key[i] = keys[keyStart + i];
    value[i] = values[valueStart + i];
    dKey[i] = Vector();
    dValue[i] = Vector();
  }
  if (CONTINUES) {
    /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
      dKey[i] = select(Vector(), dKeys[dKeyStart + i], params.addToDKeys != 0u);
      dValue[i] = select(Vector(), dValues[dValueStart + i], params.addToDValues != 0u);
    }
  }

  let range = querySpans[params.querySpansBase / 2u + item / params.keyHeads];
  let first = max(range.x, params.tokensStart);
  let end = min(range.x + range.y, params.tokensStart + params.tokens);
  let sharing = params.heads / params.keyHeads;
  for (var token = first; token < end; token++) {
    let firstHead = (token - params.tokensStart) * params.heads + (item % params.keyHeads) * sharing;
    for (var head = firstHead; head < firstHead + sharing; head++) {
      let queryStart = params.qBase / WIDTH + head * VECTORS;
      let upstreamStart = params.dyBase / WIDTH + head * VECTORS;
      let known = statistics[params.statisticsBase / 2u + head];
      var products = Vector();
      var weightProducts = Vector();
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
        query[i] = q[queryStart + i];
        upstream[i] = dy[upstreamStart + i];
        products = fma(query[i], key[i], products);
        weightProducts = fma(upstream[i], value[i], weightProducts);
      }
      let weight = exp(dot(products, Vector(1.0)) * params.scale - known.x);
      let dScore = params.scale * weight * (dot(weightProducts, Vector(1.0)) - known.y);
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
        dKey[i] = fma(Vector(dScore), query[i], dKey[i]);
        dValue[i] = fma(Vector(weight), upstream[i], dValue[i]);
      }
    }
  }
  /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
    dKeys[dKeyStart + i] = dKey[i];
    dValues[dValueStart + i] = dValue[i];
  }
}

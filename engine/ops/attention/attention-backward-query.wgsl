// attentionBackwardQuery  dq[t, h, :] = Σ_j scale · p_j · (dy[t, h, :]·values[slot_j, :] − Σ_d dy·y) · keys[slot_j, :]   (+ dq)
//                         with p_j and slot_j as in attention.wgsl, and Σ_d dy·y from statistics
// Work       one invocation per token and HEADS of its heads, all of one key head, so that a key is loaded once for all of them.
// Constants  Vector: vec4f | vec2f, of WIDTH numbers; VECTORS of them make a head. HEADS: divides H/K.
//            CONTINUES: whether dq may already hold a sum; if not, loads that compile slowly are left out.
// Memory     as attention.wgsl, plus dy; the weights p are computed again, never stored.
// Precision  f32; keys in order, and cells of slots continue the sum that is in dq, so cuts change no bit.
// Chosen     HEADS as in attention.wgsl.
@group(0) @binding(0) var<storage, read> q: array<Vector>;
@group(0) @binding(1) var<storage, read> keys: array<Vector>;
@group(0) @binding(2) var<storage, read> values: array<Vector>;
@group(0) @binding(3) var<storage, read> dy: array<Vector>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> spans: array<vec4u>;
@group(0) @binding(6) var<storage, read_write> dq: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = (flatWorkgroup(group, groups) * 64u + lane) * HEADS; // token · H + head
  if (item >= params.tokens * params.heads) { return; }
  let keyHead = (item % params.heads) / (params.heads / params.keyHeads);
  let queryStart = params.qBase / WIDTH + item * VECTORS;
  let upstreamStart = params.dyBase / WIDTH + item * VECTORS;
  let outStart = params.dqBase / WIDTH + item * VECTORS;
  let statisticsStart = params.statisticsBase / 2u + item;

  var query: array<Vector, HEADS * VECTORS>;
  var upstream: array<Vector, HEADS * VECTORS>;
  var gradient: array<Vector, HEADS * VECTORS>;
  var key: array<Vector, VECTORS>;
  var known: array<vec2f, HEADS>;
  var products: array<Vector, HEADS>;
  var weightProducts: array<Vector, HEADS>;
  var dScore: array<f32, HEADS>;
  /* @unroll */ for (var h = 0u; h < HEADS; h++) {
    known[h] = statistics[statisticsStart + h];
    /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
      query[h * VECTORS + i] = q[queryStart + h * VECTORS + i];
      upstream[h * VECTORS + i] = dy[upstreamStart + h * VECTORS + i];
      gradient[h * VECTORS + i] = Vector();
    }
  }
  if (CONTINUES && params.addToDq != 0u) {
    /* @unroll */ for (var h = 0u; h < HEADS; h++) {
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) { gradient[h * VECTORS + i] = dq[outStart + h * VECTORS + i]; }
    }
  }

  let span = spans[params.spansBase / 4u + item / params.heads];
  let stride = params.keyHeads * VECTORS;
  for (var run = select(1u, 0u, span.y > 0u); run < 2u; run++) {
    let range = keyRange(span, run, params.slotsStart, params.slotsStart + params.slots);
    let offset = (range.x - params.slotsStart) * stride + keyHead * VECTORS;
    var keyStart = params.keysBase / WIDTH + offset;
    var valueStart = params.valuesBase / WIDTH + offset;
    for (var slot = range.x; slot < range.y; slot++) {
      /* @unroll */ for (var h = 0u; h < HEADS; h++) {
        products[h] = Vector();
        weightProducts[h] = Vector();
      }
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
        key[i] = keys[keyStart + i];
        let valuePart = values[valueStart + i];
        /* @unroll */ for (var h = 0u; h < HEADS; h++) {
          products[h] = fma(query[h * VECTORS + i], key[i], products[h]);
          weightProducts[h] = fma(upstream[h * VECTORS + i], valuePart, weightProducts[h]);
        }
      }
      /* @unroll */ for (var h = 0u; h < HEADS; h++) {
        let weight = exp(dot(products[h], Vector(1.0)) * params.scale - known[h].x);
        dScore[h] = params.scale * weight * (dot(weightProducts[h], Vector(1.0)) - known[h].y);
      }
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
        /* @unroll */ for (var h = 0u; h < HEADS; h++) {
          gradient[h * VECTORS + i] = fma(Vector(dScore[h]), key[i], gradient[h * VECTORS + i]);
        }
      }
      keyStart += stride;
      valueStart += stride;
    }
  }
  /* @unroll */ for (var h = 0u; h < HEADS; h++) {
    /* @unroll */ for (var i = 0u; i < VECTORS; i++) { dq[outStart + h * VECTORS + i] = gradient[h * VECTORS + i]; }
  }
}

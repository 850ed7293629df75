// attention  y[t, h, :] = Σ_j p_j · values[slot_j, ⌊h·K/H⌋, :],   p_j = exp(s_j − logSumExp[t, h]),
//            s_j = scale · q[t, h, :]·keys[slot_j, ⌊h·K/H⌋, :],   logSumExp[t, h] = ln Σ_j exp(s_j),   slot_j along spans[t]
// Work       one invocation per token and HEADS of its heads, all of one key head, so that a key is loaded once for all of them.
// Method     online softmax, key by key in order. Weights are exp(s_j − reference). The reference is the first score; it moves
//            only when a score exceeds it by `room`, so sums are almost never rescaled. When it moves depends on this token's
//            scores alone: batch, slots and cuts change no bit.
// Cells      the state between cells of slots is the unnormalised sum in y, the reference in logSumExp, Σ weights in sums.
// Constants  Vector: vec4f | vec2f, of WIDTH numbers; VECTORS of them make a head. HEADS: divides H/K.
//            CONTINUES: whether there are several cells of slots; if not, loads that compile slowly are left out.
// Memory     q read and y written once; each token reads the keys and values it sees, (H/K)/HEADS times, mostly from cache.
// Precision  f32. NaN among a token's numbers gives NaN: `lost` keeps a NaN that a driver's exp may drop.
// Stored     keys and values are f32, or f16 in words: see the key loads in `uses`. So is y, if one cell holds all slots: see the
//            output. All arithmetic is f32.
// Chosen     HEADS: as many heads of a key head as fit 16 vectors on software adapters (loads cost more than products), 1 on GPUs.
// Measured   tiny model, 123 dialogues of 73 tokens: 18 ms of one core on lavapipe, 98 on SwiftShader (2-core x86-64,
//            node bench/run.ts attention). With one head per invocation half as fast; SwiftShader without unrolling a quarter.
@group(0) @binding(0) var<storage, read> q: array<Vector>;
@group(0) @binding(1) var<storage, read> keys: array<Stored>;
@group(0) @binding(2) var<storage, read> values: array<Stored>;
@group(0) @binding(3) var<storage, read> spans: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> y: array<Output>;
@group(0) @binding(5) var<storage, read_write> logSumExp: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

const room = 8.0;
const lowest = -3.0e38;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = (flatWorkgroup(group, groups) * 64u + lane) * HEADS; // token · H + head
  if (item >= params.tokens * params.heads) { return; }
  let keyHead = (item % params.heads) / (params.heads / params.keyHeads);
  let queryStart = params.qBase / WIDTH + item * VECTORS;
  let outStart = params.yBase / WIDTH + item * VECTORS;
  let stateStart = params.logSumExpBase + item;
  let sumStart = params.sumsBase + item;

  var query: array<Vector, HEADS * VECTORS>;
  var mixed: array<Vector, HEADS * VECTORS>;
  var reference: array<f32, HEADS>;
  var sum: array<f32, HEADS>;
  var lost: array<f32, HEADS>;
  var products: array<Vector, HEADS>;
  var weight: array<f32, HEADS>;
  /* @unroll */ for (var h = 0u; h < HEADS; h++) {
    reference[h] = lowest;
    sum[h] = 0.0;
    lost[h] = 0.0;
    /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
      query[h * VECTORS + i] = q[queryStart + h * VECTORS + i];
      mixed[h * VECTORS + i] = Vector();
    }
  }
  if (CONTINUES && params.slotsStart > 0u) {
    /* @unroll */ for (var h = 0u; h < HEADS; h++) {
      reference[h] = logSumExp[stateStart + h];
      sum[h] = sums[sumStart + h];
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) { mixed[h * VECTORS + i] = storedState(outStart + h * VECTORS + i); }
    }
  }

  let span = spans[params.spansBase / 4u + item / params.heads];
  let stride = params.keyHeads * VECTORS;
  let slotsEnd = params.slotsStart + params.slots;
  for (var run = select(1u, 0u, span.y > 0u); run < 2u; run++) {
    let range = keyRange(span, run, params.slotsStart, slotsEnd);
    let offset = (range.x - params.slotsStart) * stride + keyHead * VECTORS;
    var key = params.keysBase / WIDTH + offset;
    var value = params.valuesBase / WIDTH + offset;
    for (var slot = range.x; slot < range.y; slot++) {
      /* @unroll */ for (var h = 0u; h < HEADS; h++) { products[h] = Vector(); }
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
        let part = keyAt(key + i);
        /* @unroll */ for (var h = 0u; h < HEADS; h++) { products[h] = fma(query[h * VECTORS + i], part, products[h]); }
      }
      /* @unroll */ for (var h = 0u; h < HEADS; h++) {
        let score = dot(products[h], Vector(1.0)) * params.scale;
        if (score > reference[h] + room) {
          let factor = exp(reference[h] - score);
          sum[h] *= factor;
          /* @unroll */ for (var i = 0u; i < VECTORS; i++) { mixed[h * VECTORS + i] *= factor; }
          reference[h] = score;
        }
        let difference = score - reference[h];
        weight[h] = exp(difference);
        sum[h] += weight[h];
        lost[h] += difference;
      }
      /* @unroll */ for (var i = 0u; i < VECTORS; i++) {
        let part = valueAt(value + i);
        /* @unroll */ for (var h = 0u; h < HEADS; h++) { mixed[h * VECTORS + i] = fma(Vector(weight[h]), part, mixed[h * VECTORS + i]); }
      }
      key += stride;
      value += stride;
    }
  }

  let isLast = slotsEnd == params.slotsTotal;
  var negativeInfinity = 0xff800000u; // a variable: WGSL refuses constants that are infinite
  /* @unroll */ for (var h = 0u; h < HEADS; h++) {
    let total = select(sum[h], lost[h], isNaN(lost[h]));
    let seesNone = isLast && span.w == 0u;
    let factor = select(select(1.0, 1.0 / total, isLast), 0.0, seesNone);
    let closed = select(reference[h] + log(total), total, isNaN(total));
    logSumExp[stateStart + h] = select(select(reference[h], closed, isLast), bitcast<f32>(negativeInfinity), seesNone);
    if (CONTINUES) { sums[sumStart + h] = total; }
    /* @unroll */ for (var i = 0u; i < VECTORS; i++) { storeOutput(outStart + h * VECTORS + i, mixed[h * VECTORS + i] * factor); }
  }
}

enable subgroups; diagnostic(off, subgroup_uniformity);
// attentionPairsBackwardQuery  the same as attention-backward-query.wgsl, to the same bits.
// Work       as attention-tile.wgsl: one subgroup of 8 for 8 · ROWS queries of one key head. A load brings a four of a key or value
//            to every lane: 32 numbers, which are broadcast to all queries; those of the key twice. KEYS keys are taken at a time.
// Order      of workgroups: balanced.wgsl.
// Constants  PIECES, ROWS as in attention-tile.wgsl. KEYS: 2, so that sums are fetched and stored half as often. LOADS: fours of KEYS
//            keys / 8, rounded up. CONTINUES: whether dq may already hold a sum.
// Chosen     on lavapipe, for heads of 8, 16, 24 and 32. Larger ones gain little, and take several times as long to compile.
// Measured   both kernels and the statistics, 123 dialogues of 73 tokens, heads of 16: 1.6 times less processor time than the tile
//            kernels (Mesa 25.0.7, 2 busy cores); node bench/run.ts "attention backward tiny".
@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> keys: array<vec4f>;
@group(0) @binding(2) var<storage, read> values: array<vec4f>;
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(5) var<storage, read> spans: array<vec4u>;
@group(0) @binding(6) var<storage, read_write> dq: array<vec4f>;

const FOURS = 2u * PIECES; // of a head

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sharing = params.heads / params.keyHeads;
  let items = params.tokens * sharing;
  let tile = balanced(flatWorkgroup(group, groups), params.keyHeads * ((items + 8u * ROWS - 1u) / (8u * ROWS)));
  let keyHead = tile % params.keyHeads;
  let first = tile / params.keyHeads * 8u * ROWS;
  if (first >= items) { return; }

  var query: array<vec4f, ROWS * FOURS>;
  var upstream: array<vec4f, ROWS * FOURS>;
  var gradient: array<vec4f, ROWS * FOURS>;
  var item: array<u32, ROWS>; // token · H + head
  var runs: Runs;
  var known: array<vec2f, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    let place = min(first + r * 8u + lane, items - 1u);
    let token = place / sharing;
    item[r] = token * params.heads + keyHead * sharing + place % sharing;
    runs.span[r] = spans[params.spansBase / 4u + token];
    known[r] = statistics[params.statisticsBase / 2u + item[r]];
    for (var f = 0u; f < FOURS; f++) {
      query[r * FOURS + f] = q[params.qBase / 4u + item[r] * FOURS + f];
      upstream[r * FOURS + f] = dy[params.dyBase / 4u + item[r] * FOURS + f];
      if (CONTINUES && params.addToDq != 0u) { gradient[r * FOURS + f] = dq[params.dqBase / 4u + item[r] * FOURS + f]; }
    }
  }

  let stride = params.keyHeads * FOURS;
  for (var run = 0u; run < 2u; run++) {
    openRun(&runs, run, params.slotsStart, params.slotsStart + params.slots);
    while (nextRange(&runs)) {
      for (var slot = runs.start; slot < runs.stop; slot += KEYS) {
        var key: array<vec4f, LOADS>;
        var value: array<vec4f, LOADS>;
        var products: array<vec4f, KEYS * ROWS>;
        var weightProducts: array<vec4f, KEYS * ROWS>;
        for (var i = 0u; i < KEYS * ROWS; i++) {
          products[i] = vec4f();
          weightProducts[i] = vec4f();
        }
        /* @unroll */ for (var i = 0u; i < LOADS; i++) {
          let four = 8u * i + lane;
          let place = min(slot + four / FOURS, runs.stop - 1u) - params.slotsStart;
          key[i] = keys[params.keysBase / 4u + place * stride + keyHead * FOURS + four % FOURS];
          value[i] = values[params.valuesBase / 4u + place * stride + keyHead * FOURS + four % FOURS];
        }
        /* @unroll */ for (var i = 0u; i < PIECES; i++) {
          /* @unroll */ for (var j = 0u; j < 2u; j++) {
            /* @unroll */ for (var k = 0u; k < KEYS; k++) {
              const four = k * FOURS + 2u * i + j;
              let one = subgroupBroadcast(key[four / 8u], four % 8u);
              let oneValue = subgroupBroadcast(value[four / 8u], four % 8u);
              /* @unroll */ for (var r = 0u; r < ROWS; r++) {
                const f = r * FOURS + 2u * i + j;
                products[k * ROWS + r] = fma(query[f], one, products[k * ROWS + r]);
                weightProducts[k * ROWS + r] = fma(upstream[f], oneValue, weightProducts[k * ROWS + r]);
              }
            }
          }
        }
        /* @unroll */ for (var r = 0u; r < ROWS; r++) {
          var dScore: array<f32, KEYS>;
          /* @unroll */ for (var k = 0u; k < KEYS; k++) {
            let weight = exp(dot(products[k * ROWS + r], vec4f(1.0)) * params.scale - known[r].x);
            dScore[k] = params.scale * weight * (dot(weightProducts[k * ROWS + r], vec4f(1.0)) - known[r].y);
          }
          if (slot < runs.limit[r]) {
            /* @unroll */ for (var i = 0u; i < PIECES; i++) {
              /* @unroll */ for (var j = 0u; j < 2u; j++) {
                const f = r * FOURS + 2u * i + j;
                var sum = gradient[f];
                /* @unroll */ for (var k = 0u; k < KEYS; k++) {
                  const four = k * FOURS + 2u * i + j;
                  let next = fma(vec4f(dScore[k]), subgroupBroadcast(key[four / 8u], four % 8u), sum);
                  sum = select(sum, next, k == 0u || slot + k < runs.limit[r]);
                }
                gradient[f] = sum;
              }
            }
          }
        }
      }
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (first + r * 8u + lane >= items) { continue; }
    for (var f = 0u; f < FOURS; f++) { dq[params.dqBase / 4u + item[r] * FOURS + f] = gradient[r * FOURS + f]; }
  }
}

// sumOfSquares  sums[firstChunk + c] = Σ x[i]² over chunk c of `chunk` elements
// Work          one workgroup per chunk. The sum is that of LANES lanes, each of which takes every LANES-th group of four. An
//               invocation computes every INVOCATIONS-th lane; software drivers use few, because barriers are expensive there.
// Constants     LANES: power of two, at most 256, part of the order of the sum. SHARE: lanes per invocation, LANES / INVOCATIONS.
// Memory        x read once. Bandwidth-bound.
// Precision     f32: chunk / (4 · LANES) terms one after another in each of four sums, then pairwise; INVOCATIONS change no bit.
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) own: u32) {
  let chunk = flatWorkgroup(group, groups);
  let vectors = params.chunk / 4u;
  let start = params.xBase / 4u + chunk * vectors;
  let count = max(min((chunk + 1u) * vectors, (params.size + 3u) / 4u), chunk * vectors) - chunk * vectors;
  var fours: array<vec4f, SHARE>;
  /* @unroll */ for (var j = 0u; j < SHARE; j++) { fours[j] = vec4f(); }
  for (var round = 0u; round < count; round += LANES) {
    /* @unroll */ for (var j = 0u; j < SHARE; j++) {
      let i = round + j * INVOCATIONS + own;
      let v = select(vec4f(), x[start + min(i, count - 1u)], i < count);
      fours[j] = fma(v, v, fours[j]);
    }
  }
  /* @unroll */ for (var j = 0u; j < SHARE; j++) {
    ofLane[j * INVOCATIONS + own] = (fours[j].x + fours[j].y) + (fours[j].z + fours[j].w);
  }
  let total = sumOfLanes(own);
  if (own == 0u && chunk * params.chunk < params.size) { sums[params.sumsBase + params.firstChunk + chunk] = total; }
}

// sumRows    partial[o, chunk] (+)= Σ_t x[t, o],  t in the chunk
// Work       one invocation per output and chunk of rows; neighbours read neighbouring outputs.
// Memory     x read once. Bandwidth-bound.
// Precision  f32, t ascending in a chunk; continues if an earlier cell began the chunk.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let o = group.x * 32u + lane;
  if (o >= params.outputs) { return; }
  let chunk = chunkOf(group.y);
  if (!chunk.isHere) { return; }
  let place = params.partialBase + o * params.chunks + chunk.index;
  var sum = select(0.0, partial[place], params.addToPartial != 0u && chunk.isBegun);
  var at = params.xBase + chunk.first * params.width + params.outputsStart + o;
  for (var t = chunk.first; t < chunk.end; t++) {
    sum += x[at];
    at += params.width;
  }
  partial[place] = sum;
}

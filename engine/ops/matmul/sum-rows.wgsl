// sumRows    partial[o, chunk] (+)= Σ_t x[t, o],  t in the chunk
// Work       one invocation per output and chunk of rows; neighbours read neighbouring outputs.
// Memory     x read once. Bandwidth-bound.
// Precision  f32, t ascending in a chunk; continues if an earlier cell began the chunk.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let o = group.x * 32u + lane;
  if (o >= params.outputs) { return; }
  let chunk = params.rowsStart / params.chunkRows + group.y;
  let chunkStart = chunk * params.chunkRows;
  let first = max(chunkStart, params.rowsStart) - params.rowsStart;
  let end = min(chunkStart + params.chunkRows - params.rowsStart, params.rows);
  let continues = params.addToPartial != 0u && (params.chunks == 1u || chunkStart < params.rowsStart);
  let place = params.partialBase + o * params.chunks + chunk;
  var sum = select(0.0, partial[place], continues);
  var at = params.xBase + first * params.width + params.outputsStart + o;
  for (var t = first; t < end; t++) {
    sum += x[at];
    at += params.width;
  }
  partial[place] = sum;
}

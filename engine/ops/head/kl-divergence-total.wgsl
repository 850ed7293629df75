// klTotal  kl[r] = Σ over blocks of sums[r, :], in ascending order
// Work     one invocation per row.
// Memory   4 bytes read per block.
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> kl: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x;
  if (row >= params.rows) { return; }
  var sum = 0.0;
  for (var block = 0u; block < params.blocks; block++) { sum += sums[params.sumsBase + row * params.blocks + block]; }
  kl[params.klBase + row] = sum;
}

// The entry point of a product of rows, for tiles without matrix units.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(local_invocation_index) lane: u32) {
  multiply(tile, lane);
}

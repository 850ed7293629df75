// The entry point of a product of rows on matrix units: only an entry point knows its subgroup's number.
var<private> ownSubgroup: u32;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) tile: vec3u, @builtin(subgroup_id) subgroup: u32, @builtin(local_invocation_index) lane: u32) {
  ownSubgroup = subgroup;
  multiply(tile, lane);
}

fn multiplyTile(p: Product, tile: vec2u, lane: u32) { multiplyOnMatrixUnits(p, tile, ownSubgroup, lane); }

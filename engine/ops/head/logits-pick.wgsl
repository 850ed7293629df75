// pickLogits  picked[r] = logits[r, targets[r]] / temperature if the chunk has that column;  `absent` before any chunk had it
// Work        one invocation per row.
// Memory      a number per row.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> picked: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x;
  if (row >= params.rows) { return; }
  let column = targets[params.targetsBase + row] - params.firstColumn; // wraps around below the chunk
  if (column < params.columns) {
    picked[params.pickedBase + row] = logits[params.logitsBase + row * params.width + column] / params.temperature;
  } else if (params.firstColumn == 0u) {
    picked[params.pickedBase + row] = params.absent;
  }
}

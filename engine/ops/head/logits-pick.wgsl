// pickLogits  picked[p] = logits[r, targets[p]] / temperature, r = row of p, if the chunk has that column;  `absent` before any chunk
//             had it
// Work        one invocation per pick. Rows in another cell are skipped.
// Memory      a number per pick.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> rowOf: array<u32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> picked: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let pick = id.x;
  if (pick >= params.picks) { return; }
  let row = rowOfPick(pick);
  if (row >= params.source) { return; }
  let column = targets[params.targetsBase + pick] - params.firstColumn; // wraps around below the chunk
  if (column < params.columns) {
    picked[params.pickedBase + pick] = logits[params.logitsBase + row * params.width + column] / params.temperature;
  } else if (params.firstColumn == 0u) {
    picked[params.pickedBase + pick] = params.absent;
  }
}

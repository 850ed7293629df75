// warpScale   warped[r, v] = z / temperature,  z = logits[r, v]; if row r has seen v: z / penalty if z > 0, else z · penalty
// Work        one invocation per four neighbouring columns, one row of workgroups per row.
// Memory      logits read once, warped written once, a bit per id. Bandwidth-bound.
// Chosen      when a repetition penalty or a cut is asked for.
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> seen: array<u32>;
@group(0) @binding(2) var<storage, read_write> warped: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let first = 4u * id.x;
  let row = id.y;
  if (first >= params.columns) { return; }
  var bits = 0u; // of four neighbours: all in one word
  if (params.hasSeen != 0u) {
    bits = seen[params.seenBase + row * params.seenWidth + first / 32u] >> (first % 32u);
  }
  for (var k = 0u; k < 4u && first + k < params.columns; k++) {
    let at = row * params.width + first + k;
    let logit = logits[params.logitsBase + at];
    let isSeen = ((bits >> k) & 1u) == 1u;
    let penalised = select(logit, select(logit * params.penalty, logit / params.penalty, logit > 0.0), isSeen);
    // A WGSL compiler may assume that no number is infinite or NaN: such numbers are copied unchanged.
    let isNumber = (bitcast<u32>(logit) & 0x7fffffffu) < 0x7f800000u;
    warped[params.warpedBase + at] = select(logit, penalised / params.temperature, isNumber);
  }
}

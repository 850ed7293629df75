// klBackward  in place, per logit of Q:  (q − p)·dKl / temperature,  p = e^(logitsP / temperature − logSumExpP), q likewise
// Work        one workgroup per row and block of columns; each of LANES invocations takes every LANES-th four of columns.
// Constants   LANES.
// Memory      logitsP read, logitsQ read and written once. Two exps per element.
@group(0) @binding(0) var<storage, read> logitsP: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> logitsQ: array<vec4f>;
@group(0) @binding(2) var<storage, read> logSumExpP: array<f32>;
@group(0) @binding(3) var<storage, read> logSumExpQ: array<f32>;
@group(0) @binding(4) var<storage, read> dKl: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let start = group.x * params.blockColumns;
  let count = min(params.blockColumns, params.columns - start);
  let firstP = (params.logitsPBase + row * params.width + start) / 4u;
  let firstQ = (params.logitsQBase + row * params.width + start) / 4u;
  let normaliserP = logSumExpP[params.logSumExpPBase + row];
  let normaliserQ = logSumExpQ[params.logSumExpQBase + row];
  let upstream = dKl[params.dKlBase + row] / params.temperature;
  for (var four = lane; 4u * four < count; four += LANES) {
    let p = exp(logitsP[firstP + four] / params.temperature - normaliserP);
    let q = exp(logitsQ[firstQ + four] / params.temperature - normaliserQ);
    logitsQ[firstQ + four] = (q - p) * upstream;
  }
}

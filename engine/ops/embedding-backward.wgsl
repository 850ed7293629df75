// embeddingBackward  dTable[v] += Σ over tokens with id v, ascending, of dy
// Work               one invocation a distinct id and column; no atomics.
// Memory             dy read once; the touched rows of dTable read and written once.
// Precision          one f32 sum, positions ascending; over segments of dy it goes on from what is stored.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> runs: array<u32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> dTable: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.distinct * params.width) { return; }
  let entry = params.runsBase + 3u * (i / params.width);
  let column = i % params.width;
  let id = runs[entry];
  if (id < params.vocabularyStart || id - params.vocabularyStart >= params.vocabulary) { return; }
  let place = params.dTableBase + (id - params.vocabularyStart) * params.width + column;
  // The caller has filled a table that was to be assigned with zeros.
  var sum = dTable[place];
  for (var k = runs[entry + 1u]; k < runs[entry + 2u]; k++) {
    let token = order[params.orderBase + k];
    if (token >= params.rowsStart && token - params.rowsStart < params.rows) {
      sum += dy[params.dyBase + (token - params.rowsStart) * params.width + column];
    }
  }
  dTable[place] = sum;
}

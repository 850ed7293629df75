// embeddingBackward  dTable[v] += Σ over tokens with id v, ascending, of dy
// Work               an invocation processes ROUNDS vectors of WIDTH columns of distinct ids (work-split.ts); no atomics.
// Constants          Vector: vec4f | f32, of WIDTH numbers.
// Memory             dy read once; the touched rows of dTable read and written once.
// Precision          one f32 sum, positions ascending; over segments of dy it continues from the stored value.
@group(0) @binding(0) var<storage, read> dy: array<Vector>;
@group(0) @binding(1) var<storage, read> runs: array<u32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> dTable: array<Vector>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.distinct * params.width / WIDTH);
  for (var i = first; i < end; i += 64u) {
    let width = params.width / WIDTH;
    let entry = params.runsBase + 3u * (i / width);
    let row = runs[entry] - params.vocabularyStart; // wraps around below the segment
    if (row >= params.vocabulary) { continue; }
    let place = params.dTableBase / WIDTH + row * width + i % width;
    // If the table was to be assigned, the caller has filled it with zeros.
    var sum = dTable[place];
    for (var k = runs[entry + 1u]; k < runs[entry + 2u]; k++) {
      let token = order[params.orderBase + k] - params.rowsStart;
      if (token < params.rows) { sum += dy[params.dyBase / WIDTH + token * width + i % width]; }
    }
    dTable[place] = sum;
  }
}

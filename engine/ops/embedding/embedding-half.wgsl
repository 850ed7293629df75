// embeddingHalf  y[t, c] = table[ids[t] / 8, c, ids[t] % 8], a table in f16 panels; skips tokens whose ids lie in another segment
// Work           an invocation processes ROUNDS elements of y (work-split.ts).
// Memory         a word of the table read and 4 bytes written per element; neighbours along a row are 16 bytes apart in the table.
@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = flatWorkgroup(group, groups) * 64u * ROUNDS + lane;
  let end = min(first + 64u * ROUNDS, params.rows * params.width);
  for (var i = first; i < end; i += 64u) {
    let id = ids[params.idsBase + i / params.width];
    let panel = id / 8u - params.panelsStart; // wraps around below the segment
    if (panel >= params.panels) { continue; }
    let place = params.tableBase + slotStart(i / params.width) + (panel * params.width + i % params.width) * 8u + id % 8u;
    y[params.yBase + i] = unpack2x16float(table[place / 2u])[place % 2u];
  }
}

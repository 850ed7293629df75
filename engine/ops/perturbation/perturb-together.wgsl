// perturbTogether  slot[e] = (weight[e] + a·g_δ[e]) + b·g_η[e] for several weights of one buffer, whose slots lie in another: in rows as
//                  in perturbRows, or in panels as in perturbPanels, and 0 past the last row of the last panel
// Work             an entry per weight, of which a workgroup finds its own; one invocation per four elements of it.
// Memory           weights read once, slots written once. Arithmetic-bound: two Philox calls and four Box–Muller pairs per four.
// Chosen           for several weights of which a dispatch of its own would be shorter than what a dispatch costs.
@group(0) @binding(0) var<storage, read> weights: array<f32>;
@group(0) @binding(1) var<storage, read_write> slots: array<f32>;
@group(0) @binding(2) var<storage, read> entries: array<u32>;

/** As `entryOf` writes it (perturb-together.ts). */
struct Entry {
  firstGroup: u32,
  inPanels: bool,
  weight: u32,
  slot: u32,
  rows: u32,
  rowSize: u32,
  name: vec2u,
  deltaKey: vec2u,
  etaKey: vec2u,
  a: f32,
  b: f32,
}

fn entryAt(place: u32) -> Entry {
  let at = params.entriesBase + place * WORDS;
  return Entry(
    entries[at], entries[at + 1u] != 0u, entries[at + 2u], entries[at + 3u], entries[at + 4u], entries[at + 5u],
    vec2u(entries[at + 6u], entries[at + 7u]), vec2u(entries[at + 8u], entries[at + 9u]),
    vec2u(entries[at + 10u], entries[at + 11u]), bitcast<f32>(entries[at + 12u]), bitcast<f32>(entries[at + 13u]),
  );
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let own = flatWorkgroup(group, groups);
  if (own >= params.workgroups) { return; }
  // The last entry that begins at or before this workgroup.
  var place = 0u;
  var end = params.count;
  while (end - place > 1u) {
    let middle = (place + end) / 2u;
    if (entries[params.entriesBase + middle * WORDS] <= own) { place = middle; } else { end = middle; }
  }
  let e = entryAt(place);
  let i = (own - e.firstGroup) * 64u + lane;
  // Four elements of the weight from `element` on, and where they go.
  var element = 4u * i;
  var slotPlace = e.slot + element;
  var step = 1u;
  if (e.inPanels) {
    // Neighbours take the same columns of a panel's eight rows, so that they write side by side.
    let panel = i / (2u * e.rowSize);
    let column = i % (2u * e.rowSize) / 8u * 4u;
    if (panel >= (e.rows + 7u) / 8u) { return; }
    element = (panel * 8u + i % 8u) * e.rowSize + column;
    slotPlace = e.slot + (panel * e.rowSize + column) * 8u + i % 8u;
    step = 8u;
  }
  let size = e.rows * e.rowSize;
  let quad = vec2u(element / 4u, 0u);
  var delta = vec4f(0.0);
  var eta = vec4f(0.0);
  if (e.a != 0.0) { delta = directionNormals(quad, e.deltaKey, e.name); }
  if (e.b != 0.0) { eta = directionNormals(quad, e.etaKey, e.name); }
  for (var k = 0u; k < 4u; k++) {
    if (element + k < size) {
      slots[params.slotsBase + slotPlace + step * k] = perturbed(weights[params.weightsBase + e.weight + element + k], delta[k], eta[k], e.a, e.b);
    } else if (e.inPanels) {
      slots[params.slotsBase + slotPlace + step * k] = 0.0;
    }
  }
}

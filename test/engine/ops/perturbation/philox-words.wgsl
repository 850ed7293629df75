// philoxWords  words[i] = Philox of counters[i] under keys[i].  For known answers.
@group(0) @binding(0) var<storage, read> counters: array<vec4u>;
@group(0) @binding(1) var<storage, read> keys: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> words: array<vec4u>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.rows) { return; }
  words[params.wordsBase / 4u + id.x] = philox(counters[params.countersBase / 4u + id.x], keys[params.keysBase / 2u + id.x]);
}

// The keys that a token sees lie in two runs of slots: its prefix (run 0) and its own sequence (run 1). Returns the part of a run
// from slot `begin` up to slot `end`, as (first, past the last); empty if the second is not larger.
fn keyRange(span: vec4u, run: u32, begin: u32, end: u32) -> vec2u {
  let prefixLength = min(span.y, span.w);
  let start = select(span.x, span.z, run == 1u);
  let length = select(prefixLength, span.w - prefixLength, run == 1u);
  return vec2u(max(start, begin), min(start + length, end));
}

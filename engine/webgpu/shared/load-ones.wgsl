// left4, right4  four neighbouring elements in loads of one, for any alignment. Left and Right are f32.

/** Elements from `count` on are 0: they may be anything, and what they are multiplied with is 0. */
fn left4(at: u32, count: u32) -> vec4f {
  let four = vec4f(left[at], left[at + 1u], left[at + 2u], left[at + 3u]);
  return select(vec4f(), four, vec4u(0u, 1u, 2u, 3u) < vec4u(count));
}

fn right4(at: u32) -> vec4f { return vec4f(right[at], right[at + 1u], right[at + 2u], right[at + 3u]); }

// Four neighbours in one load. `at` counts elements and is a multiple of four.
fn leftFour(at: u32) -> vec4f { return fourOf(left[at / 4u]); }
fn rightFour(at: u32) -> vec4f { return fourOf(right[at / 4u]); }
fn fourOf(words: vec2u) -> vec4f { return vec4f(unpack2x16float(words.x), unpack2x16float(words.y)); }

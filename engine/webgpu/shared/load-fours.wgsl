// left4, right4  four neighbouring elements in one load. Left and Right are vec4f, `at` and counts are multiples of 4.
fn left4(at: u32, _count: u32) -> vec4f { return left[at / 4u]; }

fn right4(at: u32) -> vec4f { return right[at / 4u]; }

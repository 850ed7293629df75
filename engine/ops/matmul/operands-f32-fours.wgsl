// Four neighbours in one load. `at` counts elements and is a multiple of four.
fn leftFour(at: u32) -> vec4f { return left[at / 4u]; }
fn rightFour(at: u32) -> vec4f { return right[at / 4u]; }

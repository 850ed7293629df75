// Eight neighbouring halves in one load. `at` counts elements and is a multiple of eight; those past `count` are 0.
fn leftEight(at: u32, count: u32) -> vec4u { return firstHalves(left[at / 8u], count); }
fn rightEight(at: u32, count: u32) -> vec4u { return firstHalves(right[at / 8u], count); }

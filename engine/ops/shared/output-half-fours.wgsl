// The result of a kernel, y, in f16: four numbers in two words. `at` counts fours.
fn storeOutput(at: u32, value: vec4f) { y[at] = vec2u(halvesOf(value.xy), halvesOf(value.zw)); }

// y in f16, four numbers in two words: for one cell of slots, so that there is no state. `at` counts fours.
fn storedState(_at: u32) -> vec4f { return vec4f(); }
fn storeOutput(at: u32, value: vec4f) { y[at] = vec2u(halvesOf(value.xy), halvesOf(value.zw)); }

// Keys and values in f16, four numbers in two words. `at` counts fours.
fn keyAt(at: u32) -> vec4f { return fourOf(keys[at]); }
fn valueAt(at: u32) -> vec4f { return fourOf(values[at]); }
fn fourOf(words: vec2u) -> vec4f { return vec4f(unpack2x16float(words.x), unpack2x16float(words.y)); }

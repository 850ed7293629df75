// Keys and values in f16, two numbers in a word. `at` counts words.
fn keyAt(at: u32) -> vec2f { return unpack2x16float(keys[at]); }
fn valueAt(at: u32) -> vec2f { return unpack2x16float(values[at]); }

// Keys and values in f16, number by number. `at` counts numbers.
fn keyAt(at: u32) -> f32 { return unpack2x16float(keys[at / 2u])[at % 2u]; }
fn valueAt(at: u32) -> f32 { return unpack2x16float(values[at / 2u])[at % 2u]; }

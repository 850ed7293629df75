// Keys and values in f32. `at` counts vectors.
fn keyAt(at: u32) -> Vector { return keys[at]; }
fn valueAt(at: u32) -> Vector { return values[at]; }

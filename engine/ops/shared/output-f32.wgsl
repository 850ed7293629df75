// The result of a kernel, y, in f32. `at` counts vectors.
fn storeOutput(at: u32, value: Vector) { y[at] = value; }

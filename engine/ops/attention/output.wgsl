// y in f32, which also keeps the state between cells of slots.
fn storedState(at: u32) -> Output { return y[at]; }
fn storeOutput(at: u32, value: Output) { y[at] = value; }

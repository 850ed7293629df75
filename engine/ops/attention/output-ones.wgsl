// y in f32, which also keeps the state between cells of slots. `at` counts numbers.
fn storedState(at: u32) -> f32 { return y[at]; }
fn storeFour(at: u32, value: vec4f) {
  y[at] = value.x;
  y[at + 1u] = value.y;
  y[at + 2u] = value.z;
  y[at + 3u] = value.w;
}

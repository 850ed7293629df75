fn leftOne(at: u32) -> f32 { return left[at]; }
fn rightOne(at: u32) -> f32 { return right[at]; }

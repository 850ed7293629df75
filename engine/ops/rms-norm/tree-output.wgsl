// The tree's results in f32, column by column. `at`, `xAt` and `weightAt` count elements.
const COLUMNS = 1u;
fn storeColumns(at: u32, xAt: u32, weightAt: u32, r: f32) { y[at] = x[xAt] * r * weight[weightAt]; }

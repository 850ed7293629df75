// multiplyTriple  y_i[t, o] = bias_i[o] + Σ_c left[t, c] · W_i[o, c]  for three weights, whose panels follow each other in right
//                 x [T, C], panels [P, C, 8], y_i [T, O_i], each O_i a multiple of 8
// Work            one workgroup per tile of rows × outputs of all three; see the tile in `uses`.
// Constants       LANES: invocations of a workgroup, the tile's.
// Precision       f32, c ascending, one accumulator that starts from the bias: the bits of three products.
// Chosen          if panels and biases follow each other; the adapter decides the tile (tiles.ts).
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<Result>;
@group(0) @binding(4) var<storage, read_write> second: array<Result>;
@group(0) @binding(5) var<storage, read_write> third: array<Result>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

/** The first row of the tile's rows, and elements from the first biases to theirs. */
var<private> ownFirst: u32;
var<private> ownBias: u32;

/** What the entry point does (entry.wgsl, matrix-entry.wgsl). */
fn multiply(tile: vec3u, lane: u32) {
  let own = tileRows(tile.x);
  ownFirst = own.first;
  ownBias = own.bias;
  var p: Product;
  p.rows = own.count;
  p.columns = params.firstColumns + params.secondColumns + params.thirdColumns;
  p.count = params.width;
  p.leftBase = params.leftBase + own.first * params.width;
  p.leftRow = params.width;
  p.leftStep = 1u;
  p.rightBase = params.rightBase + own.right;
  p.rightPanel = params.width * 8u;
  p.rightStep = 8u;
  p.startsFromColumns = params.hasBias != 0u;
  multiplyTile(p, vec2u(own.tile, tile.y), lane);
}

/** Biases may lie apart: each begins at its own place. */
fn columnStart(column: u32) -> f32 {
  let own = min(column, params.firstColumns + params.secondColumns + params.thirdColumns - 1u);
  var place = params.firstBias + own;
  if (own >= params.firstColumns + params.secondColumns) {
    place = params.thirdBias + own - params.firstColumns - params.secondColumns;
  } else if (own >= params.firstColumns) {
    place = params.secondBias + own - params.firstColumns;
  }
  return bias[params.biasBase + ownBias + place];
}

fn storeFinished(_place: u32, rowOfTile: u32, column: u32, sum: Result) {
  let row = ownFirst + rowOfTile;
  if (column < params.firstColumns) {
    result[(params.resultBase + row * params.firstColumns + column) / RESULT_WIDTH] = sum;
  } else if (column < params.firstColumns + params.secondColumns) {
    let own = column - params.firstColumns;
    second[(params.secondBase + row * params.secondColumns + own) / RESULT_WIDTH] = sum;
  } else {
    let own = column - params.firstColumns - params.secondColumns;
    third[(params.thirdBase + row * params.thirdColumns + own) / RESULT_WIDTH] = sum;
  }
}

// multiplyGated  result[t, o] = Σ_c left[t, c] · G[o, c] (gate),  up[t, o] = Σ_c left[t, c] · U[o, c],  y = gate · sigmoid(gate) · up
//                x [T, C], panels of G and then of U [2·F/8, C, 8], results [T, F], F a multiple of 8
// Work           one workgroup per tile of rows × outputs computes gate first, then up; see the tile in `uses`. An invocation reads
//                the elements of gate that it wrote itself.
// Constants      LANES: invocations of a workgroup, the tile's. Vector: as Result, for sigmoid.
// Stored         y is f32, or f16 in words, the operand of the next product: see the output file in `uses`.
// Precision      f32, one accumulator per sum, in the tile's order: the bits of two products and swiglu.
// Chosen         if the panels follow each other; the adapter decides the tile (tiles.ts).
@group(0) @binding(0) var<storage, read> left: array<Operand>;
@group(0) @binding(1) var<storage, read> right: array<Operand>;
@group(0) @binding(2) var<storage, read_write> result: array<Result>;
@group(0) @binding(3) var<storage, read_write> up: array<Result>;
@group(0) @binding(4) var<storage, read_write> y: array<Stored>;

/** Whether the steps of a row of left are neighbours in memory; if not, its rows are. */
const LEFT_ALONG_STEPS = true;

var<private> isUp: bool;

/** What the entry point does (entry.wgsl, matrix-entry.wgsl). */
fn multiply(tile: vec3u, lane: u32) {
  let own = tileRows(tile.x);
  var p: Product;
  p.rows = own.count;
  p.columns = params.columns;
  p.count = params.width;
  p.leftBase = params.leftBase + own.first * params.width;
  p.leftRow = params.width;
  p.leftStep = 1u;
  p.rightPanel = params.width * 8u;
  p.rightStep = 8u;
  p.resultBase = own.first * params.columns;
  p.resultRow = params.columns;
  p.resultColumn = 1u;
  // Always two. But a loop whose end the compiler knows is unrolled, which takes it twice the time.
  for (var product = 0u; product < params.products; product++) {
    isUp = product == 1u;
    p.rightBase = params.rightBase + own.right + product * params.columns * params.width;
    multiplyTile(p, vec2u(own.tile, tile.y), lane);
  }
}

fn columnStart(_column: u32) -> f32 { return 0.0; }

fn storeFinished(place: u32, _row: u32, _column: u32, sum: Result) {
  let gatePlace = (params.resultBase + place) / RESULT_WIDTH;
  if (!isUp) {
    result[gatePlace] = sum;
    return;
  }
  let g = result[gatePlace];
  up[(params.upBase + place) / RESULT_WIDTH] = sum;
  storeOutput((params.yBase + place) / RESULT_WIDTH, g * sigmoid(g) * sum);
}

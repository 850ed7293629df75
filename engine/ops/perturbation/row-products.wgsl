// rowProducts  products[r] = Σ_c x[r, c] · y[r, c]
// Work         one workgroup per row. Each of LANES lanes takes every LANES-th element, then a tree; an invocation computes SHARE lanes.
// Constants    LANES: power of two.  INVOCATIONS · SHARE = LANES.
// Memory       x and y read once, 4 bytes written per row. Bandwidth-bound.
// Precision    f32: rowSize / (4 · LANES) terms one after another in each of four sums, then pairwise; INVOCATIONS change no bit.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> products: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) own: u32) {
  let row = flatWorkgroup(group, groups);
  let isRow = row < params.rows;
  let end = select(0u, params.rowSize, isRow);
  let ofX = params.xBase + row * params.rowSize;
  let ofY = params.yBase + row * params.rowSize;
  for (var lane = own; lane < LANES; lane += INVOCATIONS) {
    var sums = vec4f(0.0);
    for (var i = lane; i < end; i += 4u * LANES) {
      let at = i + LANES * vec4u(0u, 1u, 2u, 3u);
      let left = vec4f(x[ofX + at.x], x[ofX + at.y], x[ofX + at.z], x[ofX + at.w]);
      let right = vec4f(y[ofY + at.x], y[ofY + at.y], y[ofY + at.z], y[ofY + at.w]);
      let isInside = at < vec4u(end);
      sums = fma(select(vec4f(0.0), left, isInside), select(vec4f(0.0), right, isInside), sums);
    }
    ofLane[lane] = (sums.x + sums.y) + (sums.z + sums.w);
  }
  let total = sumOfLanes(own);
  if (own == 0u && isRow) { products[params.productsBase + row] = total; }
}

// A vector that the lanes of a subgroup of 8 hold together: lane l has its fours l, l + 8, …

// The products of the lane's own ROWS vectors with the shared one. Each number of it is broadcast once.
fn productsWith(whole: array<vec4f, LOADS>, own: ptr<function, array<f32, ROWS * SIZE>>) -> array<f32, ROWS> {
  var sums: array<vec4f, ROWS>;
  for (var r = 0u; r < ROWS; r++) { sums[r] = vec4f(); }
  /* @unroll */ for (var i = 0u; i < PIECES; i++) {
    /* @unroll */ for (var j = 0u; j < 8u; j++) {
      let one = subgroupBroadcast(whole[i / 4u][j % 4u], i % 4u * 2u + j / 4u);
      /* @unroll */ for (var r = 0u; r < ROWS; r++) { sums[r][j % 4u] = fma(one, own[r * SIZE + i * 8u + j], sums[r][j % 4u]); }
    }
  }
  var products: array<f32, ROWS>;
  /* @unroll */ for (var r = 0u; r < ROWS; r++) { products[r] = dot(sums[r], vec4f(1.0)); }
  return products;
}

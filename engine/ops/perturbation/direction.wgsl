// Four neighbours of a direction: elements 4·quad … 4·quad + 3 of a tensor in Hugging Face's layout. The index of a quad has 64
// bits, (low, high).
fn directionNormals(quad: vec2u, key: vec2u, nameWords: vec2u) -> vec4f {
  return normals(philox(vec4u(quad, nameWords), key));
}

// The quad that begins `step` quads after number count · size.
fn quadAfter(count: u32, size: u32, step: u32) -> vec2u {
  let low = count * size + step;
  return vec2u(low, highProduct(count, size) + select(0u, 1u, low < step));
}

// The quad `step` quads after the one that holds the first element of a row, and the position of that element in its quad.
fn quadOfRow(row: u32, rowSize: u32, step: u32) -> vec3u {
  let element = vec2u(row * rowSize, highProduct(row, rowSize));
  let low = ((element.x >> 2u) | (element.y << 30u)) + step;
  return vec3u(low, (element.y >> 2u) + select(0u, 1u, low < step), element.x & 3u);
}

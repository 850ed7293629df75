// Four neighbours of a direction: elements 4·quad … 4·quad + 3 of a tensor in Hugging Face's layout. A quad is counted in 64
// bits, (low, high).
fn directionNormals(quad: vec2u, key: vec2u, nameWords: vec2u) -> vec4f {
  return normals(philox(vec4u(quad, nameWords), key));
}

// The first element of a row as (quad.low, quad.high, lane).
fn quadOfRow(row: u32, rowSize: u32) -> vec3u {
  let element = wideProduct(row, rowSize);
  return vec3u((element.x >> 2u) | (element.y << 30u), element.y >> 2u, element.x & 3u);
}

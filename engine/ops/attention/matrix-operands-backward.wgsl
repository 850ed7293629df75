// Operands of the backward pass of attention as halves: eight neighbouring numbers of a head. Those past the head are 0, and so is a
// whole line outside of the cell. Rows are (token, head) of a key head, heads fastest; rows and slots are counted from the cell's first.

/** token · H + head of a row. */
fn itemOf(row: u32, keyHead: u32, sharing: u32) -> u32 {
  return row / sharing * params.heads + keyHead * sharing + row % sharing;
}

fn queryEight(row: u32, eight: u32, keyHead: u32, sharing: u32) -> vec4u {
  var words = vec4u(0u); // written out: a `var` of a loop may keep its last value, and callers loop
  if (row < params.tokens * sharing) {
    let start = params.qBase + itemOf(row, keyHead, sharing) * params.headSize;
    /* @unroll */ for (var i = 0u; i < 4u; i++) {
      let number = 8u * eight + 2u * i;
      if (number < params.headSize) {
        let part = q[(start + number) / WIDTH];
        words[i] = halvesOf(vec2f(part[2u * i % WIDTH], part[2u * i % WIDTH + 1u]));
      }
    }
  }
  return words;
}

fn upstreamEight(row: u32, eight: u32, keyHead: u32, sharing: u32) -> vec4u {
  var words = vec4u(0u);
  if (row < params.tokens * sharing) {
    let start = params.dyBase + itemOf(row, keyHead, sharing) * params.headSize;
    /* @unroll */ for (var i = 0u; i < 4u; i++) {
      let number = 8u * eight + 2u * i;
      if (number < params.headSize) {
        let part = dy[(start + number) / WIDTH];
        words[i] = halvesOf(vec2f(part[2u * i % WIDTH], part[2u * i % WIDTH + 1u]));
      }
    }
  }
  return words;
}

fn keyEight(slot: u32, eight: u32, keyHead: u32) -> vec4u {
  var words = vec4u(0u);
  if (slot < params.slots) {
    let start = params.keysBase + (slot * params.keyHeads + keyHead) * params.headSize;
    /* @unroll */ for (var i = 0u; i < 4u; i++) {
      let number = 8u * eight + 2u * i;
      if (number < params.headSize) {
        let part = keys[(start + number) / WIDTH];
        words[i] = halvesOf(vec2f(part[2u * i % WIDTH], part[2u * i % WIDTH + 1u]));
      }
    }
  }
  return words;
}

fn valueEight(slot: u32, eight: u32, keyHead: u32) -> vec4u {
  var words = vec4u(0u);
  if (slot < params.slots) {
    let start = params.valuesBase + (slot * params.keyHeads + keyHead) * params.headSize;
    /* @unroll */ for (var i = 0u; i < 4u; i++) {
      let number = 8u * eight + 2u * i;
      if (number < params.headSize) {
        let part = values[(start + number) / WIDTH];
        words[i] = halvesOf(vec2f(part[2u * i % WIDTH], part[2u * i % WIDTH + 1u]));
      }
    }
  }
  return words;
}

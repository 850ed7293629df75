// The keys of a tile of 8 × ROWS queries, one query per lane and r. In each run of slots (key-range) the queries whose part begins
// at the same slot are processed together: all of the tile, all of one sequence, or those of one token.
struct Runs {
  span: array<vec4u, ROWS>,
  begin: array<u32, ROWS>,  // where each query's part of this run begins; `none` once it was gone through
  end: array<u32, ROWS>,
  start: u32,               // the slots to go through now
  stop: u32,
  limit: array<u32, ROWS>,  // each query sees those below its own
}

const none = 0xffffffffu;

fn openRun(runs: ptr<function, Runs>, run: u32, begin: u32, end: u32) {
  for (var r = 0u; r < ROWS; r++) {
    let range = keyRange((*runs).span[r], run, begin, end);
    (*runs).begin[r] = select(none, range.x, range.y > range.x);
    (*runs).end[r] = range.y;
  }
}

/** Whether there are slots left; if so, the nearest ones, for every query that begins there. The answer is the same in all lanes. */
fn nextRange(runs: ptr<function, Runs>) -> bool {
  var nearest = none;
  for (var r = 0u; r < ROWS; r++) { nearest = min(nearest, (*runs).begin[r]); }
  let start = subgroupMin(nearest);
  var stop = 0u;
  for (var r = 0u; r < ROWS; r++) {
    let isHere = (*runs).begin[r] == start;
    (*runs).limit[r] = select(0u, (*runs).end[r], isHere);
    (*runs).begin[r] = select((*runs).begin[r], none, isHere);
    stop = max(stop, (*runs).limit[r]);
  }
  (*runs).start = start;
  (*runs).stop = subgroupMax(stop);
  return start != none;
}

// warpCut    z[r, v] ← −∞ below the largest t with  Σ { weight(z) : z ≥ t } ≥ reach · Σ weight,  weight = e^(z − max z);
//            for a count: the largest t that at least `reach` numbers reach
// Work       one workgroup per row. The bits of a float, with the sign converted, form an integer in the order of the floats.
//            The search finds t in it digit by digit, four bits at a time from the top: it sums the weights per value (of 16)
//            of the next digit, over the numbers whose digits so far are those of t.
// Constants  LANES: power of two.
// Memory     a row is read ten times, from cache after the first, and written once if it is cut.
// Precision  a lane's weights in ascending order of v, then the lanes in ascending order: the same bits on each run of one
//            adapter, whatever the batch. If the sums of a top-p come within some 1e-6 of p, the next id may go or stay.
// Chosen     when top-k or top-p is asked for.
@group(0) @binding(0) var<storage, read_write> warped: array<u32>; // the bits of floats: −∞ is no constant in WGSL

const DIGITS = 16u;
const infinity = 0x7f800000u;
const shutOut = 0xff800000u; // −∞

var<workgroup> weightOf: array<f32, LANES * DIGITS>; // by lane and digit
var<workgroup> sumOf: array<f32, DIGITS>;
var<workgroup> largestOf: array<u32, LANES>;
var<workgroup> badOf: array<u32, LANES>;
var<workgroup> prefix: u32; // of t, and how much weight is still to be found among the numbers that begin with it
var<workgroup> rest: f32;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatWorkgroup(group, groups);
  let columns = select(0u, params.columns, row < params.rows);
  let first = params.warpedBase + row * params.width;

  var largest = 0u;
  var isBad = 0u;
  for (var v = lane; v < columns; v += LANES) {
    let bits = warped[first + v];
    if ((bits & 0x7fffffffu) >= infinity) {
      if (bits != shutOut) { isBad = 1u; }
    } else {
      largest = max(largest, orderOf(bits));
    }
  }
  largestOf[lane] = largest;
  badOf[lane] = isBad;
  workgroupBarrier();
  for (var other = 0u; other < LANES; other++) {
    largest = max(largest, largestOf[other]);
    isBad |= badOf[other];
  }
  let top = floatOf(largest);

  for (var shift = 28i; shift >= 0i; shift -= 4i) {
    for (var digit = 0u; digit < DIGITS; digit++) { weightOf[lane * DIGITS + digit] = 0.0; }
    var known = 0u; // the bits of the digits found so far
    var begin = 0u;
    if (shift < 28i) {
      known = 0xffffffffu << u32(shift + 4i);
      begin = prefix;
    }
    for (var v = lane; v < columns; v += LANES) {
      let bits = warped[first + v];
      let order = orderOf(bits);
      if ((bits & 0x7fffffffu) < infinity && (order & known) == begin) {
        var weight = 1.0;
        if (params.isCount == 0u) { weight = exp(floatOf(order) - top); }
        weightOf[lane * DIGITS + ((order >> u32(shift)) & 15u)] += weight;
      }
    }
    workgroupBarrier();
    for (var digit = lane; digit < DIGITS; digit += LANES) {
      var sum = 0.0;
      for (var other = 0u; other < LANES; other++) { sum += weightOf[other * DIGITS + digit]; }
      sumOf[digit] = sum;
    }
    workgroupBarrier();
    if (lane == 0u) {
      var wanted = rest;
      if (shift == 28i) {
        wanted = params.reach;
        if (params.isCount == 0u) {
          var total = 0.0;
          for (var digit = 0u; digit < DIGITS; digit++) { total += sumOf[digit]; }
          wanted *= total;
        }
      }
      // From the largest digit down to the first at which the weight is reached; if none, the least digit that has any weight.
      var found = 0u;
      rest = wanted;
      for (var k = 0u; k < DIGITS; k++) {
        let digit = DIGITS - 1u - k;
        if (sumOf[digit] > 0.0) {
          found = digit;
          rest = wanted;
          if (sumOf[digit] >= wanted) { break; }
          wanted -= sumOf[digit];
        }
      }
      prefix = begin | (found << u32(shift));
    }
    workgroupBarrier();
  }

  if (isBad == 0u) {
    for (var v = lane; v < columns; v += LANES) {
      if (orderOf(warped[first + v]) < prefix) { warped[first + v] = shutOut; }
    }
  }
}

// Zeros of both signs are equal.
fn orderOf(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) == 0u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn floatOf(order: u32) -> f32 {
  return bitcast<f32>(select(~order, order & 0x7fffffffu, order >= 0x80000000u));
}

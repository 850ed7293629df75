// Random numbers for simulations inside the statistics: null fields, simulated coverage. Seeded, so that a summary has
// the same bytes each time. (Directions and sampled tokens use Philox: engine/random.ts.)
//
// The generator is sfc32 (Chris Doty-Humphrey, PractRand): three words of chaotic state and a counter, which alone
// makes the period at least 2³². Normals come from Marsaglia's polar method, two at a time.

export interface SimulationRandom {
  /** A number of the open interval (0, 1), in steps of 2⁻³². */
  uniform(): number;
  /** A standard normal. */
  normal(): number;
  /** Writes the next `count` standard normals: the same numbers as so many calls of `normal`, in less time. */
  normals(into: Float64Array, count: number): void;
  /** An integer of 0 … below − 1. */
  integer(below: number): number;
}

/**
 * @param seed    an integer of at most 53 bits; all of them count
 * @param stream  simulations that share a seed use different streams
 */
export function simulationRandom(seed: number, stream = 0): SimulationRandom {
  // a, b, c and the counter. Loops below have them in variables of their own, which the compiler keeps in registers.
  const state = Int32Array.of(seed | 0, Math.floor(seed / 0x1_0000_0000) | 0, stream | 0, 1);
  const word = (): number => {
    const sum = (state[0] + state[1] + state[3]) | 0;
    state[3]++;
    state[0] = state[1] ^ (state[1] >>> 9);
    state[1] = state[2] + (state[2] << 3);
    state[2] = ((state[2] << 21) | (state[2] >>> 11)) + sum;
    return sum >>> 0;
  };
  for (let round = 0; round < 15; round++) word(); // streams of similar seeds diverge within a dozen rounds
  const uniform = () => (word() + 0.5) * 2 ** -32;
  const spare = new Float64Array(1); // a variable of a closure would be a new object at every change
  let hasSpare = false;
  const normals = (into: Float64Array, count: number): void => {
    let at = 0;
    if (hasSpare && count > 0) {
      hasSpare = false;
      into[at++] = spare[0];
    }
    let [a, b, c, counter] = state;
    while (at < count) {
      const first = (a + b + counter) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + first) | 0;
      counter = (counter + 1) | 0;
      const second = (a + b + counter) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + second) | 0;
      counter = (counter + 1) | 0;
      const x = 2 * (((first >>> 0) + 0.5) * 2 ** -32) - 1;
      const y = 2 * (((second >>> 0) + 0.5) * 2 ** -32) - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const scale = Math.sqrt((-2 * Math.log(square)) / square);
      into[at++] = x * scale;
      if (at < count) into[at++] = y * scale;
      else {
        spare[0] = y * scale;
        hasSpare = true;
      }
    }
    state[0] = a;
    state[1] = b;
    state[2] = c;
    state[3] = counter;
  };
  const one = new Float64Array(1);
  const normal = (): number => {
    normals(one, 1);
    return one[0];
  };
  return { uniform, normal, normals, integer: (below) => Math.floor(uniform() * below) };
}

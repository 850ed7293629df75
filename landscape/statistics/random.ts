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
  /** An integer of 0 … below − 1. */
  integer(below: number): number;
}

/**
 * @param seed    an integer of at most 53 bits; all of them count
 * @param stream  simulations that share a seed use different streams
 */
export function simulationRandom(seed: number, stream = 0): SimulationRandom {
  let a = seed | 0;
  let b = Math.floor(seed / 0x1_0000_0000) | 0;
  let c = stream | 0;
  let counter = 1;
  const word = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let round = 0; round < 15; round++) word(); // streams of similar seeds diverge within a dozen rounds
  const uniform = () => (word() + 0.5) * 2 ** -32;
  const spare = new Float64Array(1); // a variable of a closure would be a new object at every change
  let hasSpare = false;
  const normal = () => {
    if (hasSpare) {
      hasSpare = false;
      return spare[0];
    }
    for (;;) {
      const x = 2 * uniform() - 1;
      const y = 2 * uniform() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const scale = Math.sqrt((-2 * Math.log(square)) / square);
      spare[0] = y * scale;
      hasSpare = true;
      return x * scale;
    }
  };
  return { uniform, normal, integer: (below) => Math.floor(uniform() * below) };
}

import { equal, is } from "uvu/assert";
import { labelledRandom, PythonRandom } from "../../../../rl/environments/python/random.ts";
import { describe, throwsMessage } from "../../../support.ts";
import { readKnown } from "../../known/read.ts";

interface Known {
  calls: string;
  streams: { seed: string; results: string; shuffles: number[][]; choices: string }[];
}

describe("rl/environments/python/random", (test) => {
  // CPython's own answers: test/rl/known/python.py.
  const { calls, streams } = readKnown<Known>("python.json");
  for (const { seed, results, shuffles, choices } of streams) {
    const name = seed.length > 25 ? `${seed.slice(0, 20)}… (${seed.length} digits)` : seed;
    test(`CPython's stream of seed ${name}`, () => {
      const random = new PythonRandom(BigInt(seed));
      const call = (text: string): number => {
        const [method, ...args] = text.split(" ");
        const [first, last] = args.map(Number);
        if (method === "getrandbits") return random.getrandbits(first);
        if (method === "randint") return random.randint(first, last);
        is(method, "random");
        return random.random();
      };
      equal(calls.split("; ").map(call), results.split(" ").map(Number));
      for (const expected of shuffles) {
        const list = expected.map((_, i) => i);
        random.shuffle(list);
        equal(list, expected);
      }
      is(Array.from(choices, () => random.choice([..."abcdefg"])).join(""), choices);
    });
  }
  test("the known streams hold each kind of call and seeds of one and of many digits", () => {
    for (const method of ["getrandbits", "random", "randint"]) is(calls.includes(method), true);
    is(
      streams.some(({ seed }) => BigInt(seed) > 2n ** 64n),
      true,
    );
  });

  test("a number and the same bigint are one seed", () =>
    is(new PythonRandom(12345).random(), new PythonRandom(12345n).random()));
  test("labels name streams: the same one twice, another one apart", () => {
    // CPython: random.Random(int.from_bytes(hashlib.sha256(b"names|7").digest()[:8], "little")), getrandbits(32) twice.
    const words = (label: string) => {
      const random = labelledRandom(label);
      return [random.getrandbits(32), random.getrandbits(32)];
    };
    equal(words("names|7"), [2883541429, 1320434110]);
    is(words("names|7")[0] === words("names|8")[0], false);
  });

  test("the widest and the first too wide", async () => {
    const random = new PythonRandom(1);
    is(random.getrandbits(53) < 2 ** 53, true);
    await throwsMessage(() => random.getrandbits(54), "0 to 53 bits", "54");
    is(random.randint(0, Number.MAX_SAFE_INTEGER - 1) <= Number.MAX_SAFE_INTEGER, true);
    await throwsMessage(() => random.randint(0, Number.MAX_SAFE_INTEGER), "2^53");
  });
  test("refuses what Python refuses", async () => {
    const random = new PythonRandom(1);
    await throwsMessage(() => random.randint(2, 1), "first ≤ last", "2 and 1");
    await throwsMessage(() => random.choice([]), "empty");
    await throwsMessage(() => new PythonRandom(0.5), "integer seed", "0.5");
  });
});

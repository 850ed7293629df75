import { is, ok } from "uvu/assert";
import { learningRate, type Schedule } from "../../rl/schedule.ts";
import { assertClose, describe, throwsMessage } from "../support.ts";

describe("rl/schedule", (test) => {
  const cosine: Schedule = { kind: "cosine", learningRate: 3e-3, warmupSteps: 100, steps: 10_000, floorShare: 0.1 };
  test("constant", () => {
    for (const step of [1, 2, 1e6]) is(learningRate({ kind: "constant", learningRate: 6e-4 }, step), 6e-4);
  });
  test("warm-up rises in a line to the peak", () => {
    is(learningRate(cosine, 1), 3e-5);
    is(learningRate(cosine, 50), 1.5e-3);
    is(learningRate(cosine, 100), 3e-3);
  });
  test("the cosine falls from the peak to the floor, and stays there", () => {
    // Half-way down at the middle; a quarter of the way it has lost (1 − cos 45°) / 2 of the height.
    assertClose(
      "rate",
      [100, 2575, 5050, 7525].map((step) => learningRate(cosine, step)),
      [3e-3, 3e-4 + 2.7e-3 * (0.5 + Math.SQRT1_2 / 2), 3e-4 + 2.7e-3 * 0.5, 3e-4 + 2.7e-3 * (0.5 - Math.SQRT1_2 / 2)],
      { relative: 1e-12 },
    );
    is(learningRate(cosine, 10_000), 3e-3 * 0.1);
    is(learningRate(cosine, 10_001), 3e-3 * 0.1);
    for (let step = 101; step <= 10_000; step += 97) ok(learningRate(cosine, step) < learningRate(cosine, step - 1));
  });
  test("no warm-up: the first step is already on the cosine", () => {
    const plain: Schedule = { kind: "cosine", learningRate: 1, warmupSteps: 0, steps: 4, floorShare: 0 };
    assertClose(
      "rate",
      [1, 2, 3, 4].map((step) => learningRate(plain, step)),
      [0.5 + Math.SQRT1_2 / 2, 0.5, 0.5 - Math.SQRT1_2 / 2, 0],
      {
        absolute: 1e-15,
      },
    );
  });
  test("refuses a warm-up without an end, a floor above the peak, and step 0", async () => {
    ok(learningRate({ ...cosine, warmupSteps: 9999 }, 1) > 0);
    await throwsMessage(() => learningRate({ ...cosine, warmupSteps: 10_000 }, 1), "warm-up < steps", "10000 steps");
    await throwsMessage(() => learningRate({ ...cosine, floorShare: 1.1 }, 1), "between 0 and 1", "1.1");
    await throwsMessage(() => learningRate(cosine, 0), "from 1 on, got 0");
  });
});

// The schedules of the learning rate against transformers' own: schedules.json (test/fixtures), and the kinds that it
// lacks in known/schedules.json (known/schedules.py).
import { equal, is, ok } from "uvu/assert";
import { diffSettings, readToml, resolveSettings } from "../../engine/host/index.ts";
import { type StudySettings, studySettings } from "../../landscape/settings.ts";
import { type RateSchedule, rateFactor, rateOfUpdate, scheduleKinds, warmupUpdates } from "../../rl/learning-rate.ts";
import { assertClose, assertKnown, describe, readFixture, throwsMessage } from "../support.ts";
import { readKnown } from "./known/read.ts";

interface Fixture {
  schedules: {
    name: string;
    warmupSteps: number;
    totalSteps: number;
    learningRate: number;
    minimumRate?: number | null;
    minimumShare?: number | null;
    multipliers: number[];
    learningRates: number[];
  }[];
  warmupFractions: { fraction: number; totalSteps: number; warmupSteps: number }[];
}

interface Further {
  schedules: {
    name: string;
    warmupSteps: number;
    totalSteps: number;
    learningRate: number;
    floorShare: number;
    cycles: number;
    power: number;
    learningRates: number[];
  }[];
}

const constant: RateSchedule = {
  schedule: "constant",
  learningRate: 1e-3,
  warmupSteps: 0,
  floorShare: 0,
  scheduleCycles: 1,
  schedulePower: 1,
};

function kindOf(name: string): RateSchedule["schedule"] {
  const found = scheduleKinds.find((kind) => kind === (name === "cosine_with_min_lr" ? "cosine" : name));
  if (found === undefined) throw new Error(`no schedule ${name}`);
  return found;
}

function settingsOf(text: string): StudySettings {
  return resolveSettings(studySettings, [readToml(studySettings, text, "own.toml")]);
}

describe("rl/learning-rate", (test) => {
  test("factors and rates of transformers: constant, warm-up, linear, cosine, cosine with a floor", () => {
    for (const known of readFixture<Fixture>("schedules.json").schedules) {
      const { name, warmupSteps, totalSteps, learningRate, minimumRate, minimumShare } = known;
      const floorShare = minimumShare ?? (minimumRate ?? 0) / learningRate;
      const schedule = { ...constant, schedule: kindOf(name), learningRate, warmupSteps, floorShare };
      const context = `${name} ${warmupSteps} of ${totalSteps}`;
      const factors = known.multipliers.map((_, u) => rateFactor(schedule, u, totalSteps));
      assertKnown("schedules.json", "multipliers", "host", factors, known.multipliers, { absolute: 1e-12 }, context);
      const rates = known.learningRates.map((_, u) => rateOfUpdate(schedule, u, totalSteps));
      assertKnown(
        "schedules.json",
        "rates",
        "host",
        rates,
        known.learningRates,
        { relative: 1e-9, absolute: 1e-18 },
        context,
      );
    }
  });

  test("rates of transformers: cosine with restarts, polynomial, inverse square root", () => {
    const { schedules } = readKnown<Further>("schedules.json");
    equal([...new Set(schedules.map(({ name }) => name))], ["cosine_with_restarts", "polynomial", "inverse_sqrt"]);
    for (const { name, totalSteps, learningRates, cycles, power, ...given } of schedules) {
      const schedule = { ...given, schedule: kindOf(name), scheduleCycles: cycles, schedulePower: power };
      const rates = learningRates.map((_, u) => rateOfUpdate(schedule, u, totalSteps));
      const context = `${name} ${given.warmupSteps} of ${totalSteps}`;
      assertClose(context, rates, learningRates, { absolute: 1e-12 * given.learningRate });
    }
  });

  test("a warm-up below 1 is a share of the updates, rounded up", () => {
    for (const { fraction, totalSteps, warmupSteps } of readFixture<Fixture>("schedules.json").warmupFractions)
      is(warmupUpdates(fraction, totalSteps), warmupSteps, `${fraction} of ${totalSteps}`);
  });

  test("the constant rate is the setting itself, to the bit", () => {
    for (const learningRate of [6e-6, 6e-4, 0.1])
      for (const update of [0, 1, 149]) is(rateOfUpdate({ ...constant, learningRate }, update, 150), learningRate);
  });

  test("refuses a warm-up that its schedule ignores, a floor that it lacks, and a broken number of updates, all at once", async () => {
    await throwsMessage(
      () => settingsOf("train.warmupSteps = 10\ntrain.floorShare = 0.1"),
      '"constant_with_warmup"',
      'train.schedule "constant" has no floor',
    );
    await throwsMessage(
      () => settingsOf('train.warmupSteps = 2.5\ntrain.schedule = "linear"'),
      "expected a whole number of updates",
      "2.5",
    );
    ok(settingsOf('train.warmupSteps = 0.1\ntrain.schedule = "cosine"\ntrain.floorShare = 0.1'));
  });

  test("a longer run extends one whose rates do not depend on its length, and alters the others", () => {
    const effect = (schedule: string): string => {
      const [before, after] = [100, 200].map((steps) =>
        settingsOf(`train.checkpoints = [0]\nlandscape.steps = [0]\ntrain.steps = ${steps}\n${schedule}`),
      );
      return diffSettings(studySettings, before, after)
        .map(({ key, effect }) => `${key} ${effect}`)
        .join();
    };
    is(effect(""), "train.steps extends");
    is(effect('train.schedule = "constant_with_warmup"\ntrain.warmupSteps = 10'), "train.steps extends");
    is(effect('train.schedule = "constant_with_warmup"\ntrain.warmupSteps = 0.1'), "train.steps alters");
    is(effect('train.schedule = "linear"'), "train.steps alters");
    is(effect('train.schedule = "inverse_sqrt"'), "train.steps extends");
  });

  test("refuses an update before the first", async () => {
    await throwsMessage(() => rateOfUpdate(constant, -1, 10), "from 0 on, got -1");
  });
});

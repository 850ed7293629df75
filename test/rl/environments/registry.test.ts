// Environments by name: their settings are declared with them, checked, and reach the one that opens.
import { equal, is, ok } from "uvu/assert";
import { integer } from "../../../engine/host/index.ts";
import { environmentApplies, environmentProblems } from "../../../rl/environments/registry.ts";
import { environmentDescription, isWorked, openEnvironment, registerEnvironment } from "../../../rl/index.ts";
import { environmentSettings } from "../../../rl/settings.ts";
import { describe, throwsMessage } from "../../support.ts";

const prompts = (count: number, name: string) => ({
  name,
  episodes: () =>
    Array.from({ length: count }, (_, index) => ({
      index,
      prompt: String(index),
      turns: 1,
      nextUserTurn: () => null,
      score: () => ({ reward: 1, parts: { turnScores: [1], formatFailed: [false] } }),
    })),
});

registerEnvironment({
  name: "counted",
  description: "Counting: the model counts.",
  settings: {
    count: integer({ default: 2, min: 1, meaning: "episodes" }),
    most: integer({ default: 9, meaning: "limit" }),
  },
  check: ({ count, most }) => (count > most ? [`count: ${count} is above most, ${most}`] : []),
  open: ({ count }) => prompts(count, "counted"),
});
registerEnvironment({ name: "misnamed", settings: {}, open: () => prompts(1, "other") });

describe("rl/environments/registry", (test) => {
  test("an environment opens with its own settings; what is left out has its default", async () => {
    const count = async (section: object): Promise<number> =>
      [...(await openEnvironment({ name: "counted", counted: section })).episodes(1)].length;
    equal([await count({}), await count({ count: 5 })], [2, 5]);
    is([...(await openEnvironment({ name: "counted" })).episodes(1)].length, 2);
    ok("counted" in environmentSettings, "its section is among the settings");
  });

  test("what is wrong with its settings is told under their full names, of the chosen one only", async () => {
    const wrong = { name: "counted", counted: { count: 10 }, "alphabet-sort": { minTurns: 3, maxTurns: 2 } };
    equal(environmentProblems(wrong), ["environment.counted.count: 10 is above most, 9"]);
    equal(environmentProblems({ ...wrong, name: "alphabet-sort" }), [
      "environment.alphabet-sort.minTurns: 3 is above maxTurns, 2",
    ]);
    await throwsMessage(() => openEnvironment(wrong), "environment.counted.count: 10 is above most, 9");
    await throwsMessage(
      () => openEnvironment({ name: "nothing" }),
      "environment.name: expected one of alphabet-sort, gsm8k, dataset, counted, misnamed",
      'got "nothing"',
    );
    await throwsMessage(() => openEnvironment({ name: "misnamed" }), 'environment "misnamed": it opens as "other"');
  });

  test("what fails in check and open, or gives no environment, is said in a sentence", async () => {
    const broken = (): never => {
      throw new Error("no key");
    };
    const opens: readonly (readonly [string, () => unknown, string])[] = [
      ["open-throws", broken, "open failed: no key ("],
      ["open-rejects", () => Promise.reject(new Error("no key")), "open failed: no key ("],
      ["open-none", () => undefined, "open: expected an object with name and episodes, got undefined"],
      ["open-empty", () => ({ name: "open-empty" }), "open: episodes: expected a function of a seed, got undefined"],
      [
        "open-held-out",
        () => ({ ...prompts(1, "open-held-out"), heldOutEpisodes: [] }),
        "open: heldOutEpisodes: expected a function of a seed, or none, got a list",
      ],
    ];
    for (const [name, open, message] of opens) {
      registerEnvironment({ name, settings: {}, open: open as () => ReturnType<typeof prompts> });
      const { name: kind } = await throwsMessage(() => openEnvironment({ name }), `environment "${name}": ${message}`);
      is(kind, "EnvironmentError", "a user's error, without a stack");
    }
    const checks: readonly (readonly [string, () => unknown, string])[] = [
      ["check-throws", broken, "check failed: no key ("],
      [
        "check-text",
        () => "count: too large",
        'check: expected a list of problems, each a text, got the text "count: too large"',
      ],
      ["check-numbers", () => [1], "check: expected a list of problems, each a text, got a list"],
    ];
    for (const [name, check, message] of checks) {
      registerEnvironment({ name, settings: {}, check: check as () => string[], open: () => prompts(1, name) });
      await throwsMessage(() => environmentProblems({ name }), `environment "${name}": ${message}`);
    }
  });

  test("a name is given once", async () => {
    for (const name of ["counted", "alphabet-sort", "name", "turn2Template"])
      await throwsMessage(
        () => registerEnvironment({ name, settings: {}, open: () => prompts(1, name) }),
        `environment "${name}": the name is taken`,
      );
  });

  test("an environment describes its task; it may be silent, but not say nothing", async () => {
    is(environmentDescription({ name: "counted" }), "Counting: the model counts.");
    is(
      environmentDescription({ name: "alphabet-sort" }),
      "Alphabet-sort: the model sorts a few names by first or last name, inside tags; each later turn adds names, and all of them are sorted again with the new ones marked. Reward, from 0 to 1: how similar the lists are to the correct ones.",
    );
    for (const name of ["misnamed", "nothing"]) is(environmentDescription({ name }), null);
    for (const description of ["", " ", "one line\nand another"])
      await throwsMessage(
        () => registerEnvironment({ name: "silent", description, settings: {}, open: () => prompts(1, "silent") }),
        'environment "silent": description: expected a sentence on one line',
        JSON.stringify(description),
      );
    is(environmentDescription({ name: "silent" }), null, "a refused environment is not registered");
  });

  test("settings of environments that are not chosen do not apply", () => {
    const applies = (key: string): boolean => environmentApplies(key, { name: "counted" });
    equal(
      ["environment.counted.count", "environment.alphabet-sort.minTurns", "environment.name", "train.steps"].map(
        applies,
      ),
      [true, false, true, true],
    );
  });

  test("Alphabet-sort knows its right answers, this one does not", async () => {
    ok(isWorked(await openEnvironment({ name: "alphabet-sort" })));
    ok(!isWorked(await openEnvironment({ name: "counted" })));
  });
});

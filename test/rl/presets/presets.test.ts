// The presets, and docs/study.md: each row of the original study's tables beside the settings that reproduce it.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "smol-toml";
import { equal, is, match, not, ok } from "uvu/assert";
import {
  diffSettings,
  readToml,
  readTomlFile,
  resolveSettings,
  settingsTemplate,
  settingValue,
  writeToml,
} from "../../../engine/host/index.ts";
import { rayPoints } from "../../../landscape/files/ray-points.ts";
import { type StudySettings, studySettings } from "../../../landscape/settings.ts";
import { filesOf, presetNames } from "../../../rl/settings-files.ts";
import { describe } from "../../support.ts";
import { landscapeTable, trainingTable } from "./study-tables.ts";

const page = readFileSync(fileURLToPath(new URL("../../../docs/study.md", import.meta.url)), "utf8");
const guide = readFileSync(fileURLToPath(new URL("../../../docs/settings.md", import.meta.url)), "utf8");

const preset = (name: string): StudySettings =>
  resolveSettings(
    studySettings,
    filesOf(studySettings, [name]).map((path) => readTomlFile(studySettings, path)),
  );

/** The rows of the table under a heading of the page. */
function rowsUnder(heading: string): string[][] {
  const section = page.split(`\n### ${heading}\n`)[1]?.split("\n#")[0] ?? "";
  return section
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .slice(1)
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

/** The settings that a cell of the page states: `section.key = value`. */
function statedIn(cell: string): [string, unknown][] {
  return [...cell.matchAll(/`([\w.-]+) = ([^`]+)`/g)].map(([, key, text]) => [key, parse(`value = ${text}`)["value"]]);
}

/** The numbers in a text, as a sorted list. */
const numbersIn = (text: string): number[] =>
  [...text.matchAll(/(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])/g)].map(([number]) => Number(number));

describe("rl/presets", (test) => {
  const study = preset("study");

  for (const [heading, table] of [
    ["Training", trainingTable],
    ["Landscape", landscapeTable],
  ] as const)
    test(`docs/study.md, ${heading}: the study's rows in its order, and the settings of the preset`, () => {
      const rows = rowsUnder(heading);
      equal(
        rows.map(([component, value]) => [component, value]),
        table.map(([component, value]) => [component, value]),
      );
      for (const [component, , cell] of rows) {
        const stated = statedIn(cell);
        ok(stated.length > 0 || cell.startsWith("none: "), `${component}: names no setting and gives no reason`);
        for (const [key, value] of stated) {
          ok(studySettings.byKey.has(key), `${component}: ${key} is no setting`);
          equal(settingValue(study, key), value, `${component}: ${key}`);
        }
      }
    });

  test("every number of the study's tables is a value of the preset", () => {
    const { train, evaluate, landscape, environment, batch } = study;
    const [minTurns, maxTurns] = ["minTurns", "maxTurns"].map((key) =>
      settingValue(environment, `alphabet-sort.${key}`),
    );
    equal(
      trainingTable.slice(1).flatMap(([, value]) => numbersIn(value)),
      [
        ...[minTurns, maxTurns],
        ...[train.learningRate, train.promptsPerStep * train.rolloutsPerPrompt, train.rolloutsPerPrompt],
        ...[batch.trainTokens, train.maxNewTokens, train.advantageEpsilon, train.clipHigh, train.klCoefficient],
        ...[train.steps, evaluate.every, evaluate.episodes, 1, minTurns, maxTurns, evaluate.episodeSeed],
        ...[train.maxNewTokens, evaluate.temperature, train.conversationsEvery],
      ],
    );
    const { reference, rollouts } = landscape;
    equal(
      landscapeTable.flatMap(([, value]) => numbersIn(value)),
      [
        ...[minTurns, maxTurns, landscape.episodeSeed, landscape.seed, rollouts.prompts * rollouts.rollouts],
        ...[rollouts.rollouts, landscape.maxNewTokens, train.clipHigh, landscape.radius, landscape.radius],
        ...[landscape.points, landscape.points],
      ],
    );
    equal(reference, rollouts);
    equal([train.clipLow, train.maskTruncated, train.loss, train.advantage], [0.2, false, "clipped", "grpo"]);
  });

  test("docs/study.md, the text's statements: checkpoints every 10 steps, each with a landscape", () => {
    const rows = rowsUnder("What the text adds");
    ok(rows.length >= 5, `${rows.length} rows`);
    for (const [statement, cell] of rows)
      for (const [key, value] of statedIn(cell)) {
        const named = cell.match(/^preset `([\w-]+)`/)?.[1] ?? "study";
        equal(settingValue(preset(named), key), value, `${statement}: ${key}`);
      }
    const everyTen = Array.from({ length: 16 }, (_, k) => 10 * k);
    equal([study.train.checkpoints, study.landscape.steps], [everyTen, everyTen]);
  });

  test("docs/study.md: each reading that a row refers to is in the list", () => {
    const readings = page.split("### How silent")[1] ?? "";
    const named = [...page.matchAll(/\(reading (\d+)\)/g)].map(([, number]) => Number(number));
    ok(named.length >= 9);
    for (const number of named) match(readings, new RegExp(`^${number}\\. \\*\\*`, "m"));
  });

  test("first-steps, wide and quick differ from the study in what they are for", () => {
    const toTen = Array.from({ length: 11 }, (_, k) => k);
    const first = preset("first-steps");
    equal([first.train.steps, first.train.checkpoints, first.landscape.steps], [10, toTen, toTen]);
    equal([first.train.seed, first.train.learningRate], [study.train.seed, study.train.learningRate]);
    const wide = preset("wide");
    is(wide.landscape.radius, 0.1);
    equal({ ...wide.landscape, radius: 0.05 }, study.landscape);
    const quick = preset("quick");
    const { points, slices, rollouts, reference } = quick.landscape;
    equal([points, slices, rollouts.prompts, reference.prompts, quick.train.steps], [11, 5, 128, 128, 0]);
    equal([quick.landscape.radius, quick.landscape.episodeSeed], [study.landscape.radius, study.landscape.episodeSeed]);
  });

  test("study-rays only adds to a study, and its rays cost no more than one map each", () => {
    const { landscape, ...others } = preset("study-rays");
    const { rays, line, pairs, ...maps } = landscape;
    const { rays: _rays, line: _line, pairs: _pairs, ...own } = study.landscape;
    // Now: other tests of the process register environments, and each has settings.
    const { landscape: _, ...ofStudy } = preset("study");
    equal([{ ...others, extends: study.extends }, maps], [ofStudy, own]);
    const changes = diffSettings(studySettings, preset("study"), preset("study-rays"));
    ok(changes.length > 0 && changes.every(({ effect }) => effect !== "alters"), JSON.stringify(changes));
    const points = rayPoints(landscape).length;
    is(points, 1 + 32 * 6 * 2);
    ok(points <= landscape.points ** 2, `${points} points on rays`);
    equal([pairs, line.stepsAhead, rays.kl], [true, [10], []]);
  });

  test("a file to start from names every setting with meaning and default, and parses back to its preset's values", () => {
    for (const name of presetNames) {
      const values = preset(name);
      const text = settingsTemplate(studySettings, values, new Set(), "node landscape/run.ts my.toml");
      const taken = text.replaceAll(/^# ([\w-]+ = )/gm, "$1");
      equal(resolveSettings(studySettings, [readToml(studySettings, taken, "my.toml")]), values, name);
      const applying = [...studySettings.byKey].filter(
        ([key, { isFlagOnly }]) => !isFlagOnly && studySettings.applies(key, values),
      );
      is(text.replaceAll("\n# ", " ").match(/\. Default: /g)?.length, applying.length, name);
    }
  });

  test("a run folder's config.toml is complete by itself: no other file, and the values that shape the results", () => {
    for (const name of presetNames) {
      const values = preset(name);
      const text = writeToml(studySettings, values);
      not.match(text, /^extends/m);
      const read = resolveSettings(studySettings, [readToml(studySettings, text, "config.toml")]);
      equal(
        diffSettings(studySettings, read, values).filter(({ effect }) => effect !== "free"),
        [],
        name,
      );
    }
  });

  test("docs/settings.md lists every preset; the presets of the study sample one step behind, tiny does not", () => {
    const table = guide.slice(guide.indexOf("\nThe presets:\n"), guide.indexOf("\nThe tasks that"));
    const listed = [...table.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name);
    equal([...listed].sort(), [...presetNames].sort());
    for (const text of [guide, page]) match(text, "gsm8k");
    for (const name of presetNames) is(preset(name).train.asyncLevel, name === "tiny" ? 0 : 1, name);
    for (const text of [guide, page]) match(text, "`train.asyncLevel = 1`");
  });
});

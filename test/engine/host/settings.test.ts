// One declaration, and all that is made of it: values, TOML, flags, help, documentation, what a change does.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "smol-toml";
import * as assert from "uvu/assert";
import { SettingsError } from "../../../engine/host/errors.ts";
import {
  addSection,
  boolean,
  choice,
  defaultSettings,
  defineSettings,
  diffSettings,
  integer,
  integers,
  number,
  numbers,
  resolveSettings,
  type SettingsTree,
  text,
  texts,
  withValues,
} from "../../../engine/host/settings.ts";
import { nearestNames } from "../../../engine/host/settings-names.ts";
import { readFlags, readToml, readTomlFile } from "../../../engine/host/settings-sources.ts";
import { flagsHelp, markdownTable, settingsTemplate, writeToml } from "../../../engine/host/settings-text.ts";
import { describe, throwsMessage } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-settings-"));

const settings = defineSettings(
  {
    out: text({ default: "runs/tiny", meaning: "folder of the run", changes: "free" }),
    seed: integer({ default: 1, min: 0, meaning: "seed of everything" }),
    train: {
      steps: integer({ default: 10, min: 1, unit: "steps", meaning: "optimiser steps", changes: "extends" }),
      rate: number({ default: 1e-6, above: 0, max: 1, meaning: "learning rate" }),
      normalisation: choice({ options: ["group-token", "sequence"], default: "group-token", meaning: "of the loss" }),
    },
    landscape: {
      points: integer({
        default: 7,
        min: 3,
        max: 201,
        unit: "points",
        meaning: "points along each axis | odd",
        changes: (before, after) => (after - 1) % (before - 1) === 0 && after > before,
      }),
      trim: boolean({ default: true, meaning: "whether to trim" }),
      rings: integers({ default: [1, 2], min: 0, minLength: 1, meaning: "radius classes", changes: "extends" }),
      spans: numbers({ default: [], meaning: "half widths" }),
      reference: { prompts: integer({ default: 32, min: 2, meaning: "prompts" }) },
      models: texts({ default: ["a", "b"], meaning: "folders" }),
    },
  },
  ({ seed, landscape }) =>
    seed > 5 && landscape.reference.prompts > 100
      ? [`seed ${seed} does not go with landscape.reference.prompts ${landscape.reference.prompts}`]
      : [],
);

const flags = (...argv: string[]) => readFlags(settings, ["help", "verbose"], argv);
const resolved = (toml: string, ...argv: string[]) =>
  resolveSettings(settings, [readToml(settings, toml, "study.toml"), flags(...argv).source]);

describe("engine/host/settings", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));

  test("defaults give way to the file, the file to the flags; the values are typed", () => {
    const values = resolved(
      "seed = 3\n[landscape]\npoints = 9\ntrim = false",
      "--landscape.points",
      "11",
      "--train.rate=0.5",
    );
    const points: number = values.landscape.points;
    const normalisation: "group-token" | "sequence" = values.train.normalisation;
    const spans: readonly number[] = values.landscape.spans;
    assert.is(points, 11);
    assert.is(normalisation, "group-token");
    assert.equal(spans, []);
    assert.is(values.seed, 3);
    assert.is(values.landscape.trim, false);
    assert.is(values.train.rate, 0.5);
    assert.is(values.landscape.reference.prompts, 32);
    // @ts-expect-error: no such setting
    assert.is(values.landscape.point, undefined);
  });

  test("flags of every form", () => {
    const { source, switches, positionals } = flags(
      ...["study.toml", "--landscape.rings", "3,5", "--landscape.spans=-0.5, 1e-2", "--no-landscape.trim", "--verbose"],
      ...["--out", "-odd-", "--landscape.models=", "--train.normalisation", "sequence", "-h", "--", "--seed", "-x"],
    );
    const values = resolveSettings(settings, [source]);
    assert.equal(values.landscape.rings, [3, 5]);
    assert.equal(values.landscape.spans, [-0.5, 0.01]);
    assert.is(values.landscape.trim, false);
    assert.is(values.out, "-odd-");
    assert.equal(values.landscape.models, []);
    assert.is(values.train.normalisation, "sequence");
    assert.equal([...switches].sort(), ["help", "verbose"]);
    assert.equal(positionals, ["study.toml", "--seed", "-x"]);
    assert.is(resolved("", "--landscape.trim=false").landscape.trim, false);
    assert.is(resolved("", "--no-landscape.trim", "--landscape.trim").landscape.trim, true);
    assert.is(resolved("", "--seed", "1", "--seed", "2").seed, 2);
    assert.equal(flags("--landscape.rings", "3", "--landscape.rings=5").source.problems, [
      "--landscape.rings is given twice, and the second list would replace the first: write one, with commas",
    ]);
    // A list of a file is replaced by a flag as a whole.
    assert.equal(resolved("landscape.rings = [3]", "--landscape.rings", "5").landscape.rings, [5]);
  });

  test("bounds: the last value that is right and the first that is not", async () => {
    const cases: [string, string, string, string][] = [
      ["landscape.points", "3", "2", "an integer from 3 to 201, got 2"],
      ["landscape.points", "201", "202", "an integer from 3 to 201, got 202"],
      ["landscape.points", "3", "3.5", "an integer from 3 to 201, got 3.5"],
      ["seed", "0", "-1", "an integer, at least 0, got -1"],
      ["train.rate", "1e-300", "0", "a number, above 0 and at most 1, got 0"],
      ["train.rate", "1", "1.0000000000000002", "a number, above 0 and at most 1, got 1.0000000000000002"],
      ["landscape.rings", "0", "1,-1", "a list of at least 1 integers, at least 0, got [1,-1]"],
      ["landscape.rings", "0", "", "a list of at least 1 integers, at least 0, got []"],
      ["train.normalisation", "sequence", "token", 'one of "group-token", "sequence", got "token"'],
      ["landscape.trim", "true", "yes", 'true or false, got "yes"'],
      ["seed", "7", "seven", 'an integer, at least 0, got "seven"'],
      ["seed", "7", "0x7", 'got "0x7"'],
    ];
    for (const [key, right, wrong, message] of cases) {
      resolved("", `--${key}=${right}`);
      await throwsMessage(() => resolved("", `--${key}=${wrong}`), `${key}: expected `, message, `(--${key}=${wrong})`);
    }
  });

  test("all problems are listed at once, each with its place and the nearest name", async () => {
    const toml =
      "sed = 2\n[landscape]\n# points = 1\npoint = 21\n\npoints = 2\nreference = 4\n[train]\nrate = nan\n[other]\nx = 1";
    const error = await throwsMessage(
      () => resolved(toml, "--landscape.slices", "3", "--points=9", "--landscape.reference.prompts", "many", "-q"),
      "10 settings are wrong:",
      "unknown flag --landscape.slices; --landscape has points, trim, rings, spans, reference.prompts, models\n",
      "unknown setting sed (study.toml, line 1); did you mean seed?",
      "unknown setting landscape.point (study.toml, line 4); did you mean landscape.points?",
      "landscape.points: expected an integer from 3 to 201, got 2 (study.toml, line 6)",
      "landscape.reference is a section, got 4 (study.toml, line 7); set landscape.reference.prompts",
      "train.rate: expected a number, above 0 and at most 1, got NaN (study.toml, line 9)",
      "unknown setting other (study.toml, line 10)\n",
      "unknown flag --points; did you mean --landscape.points?",
      'landscape.reference.prompts: expected an integer, at least 2, got "many" (--landscape.reference.prompts many)',
    );
    assert.instance(error, SettingsError);
  });

  test("a single problem is one line", async () => {
    const error = await throwsMessage(() => resolved("", "--landscape.reference-prompts", "4"));
    assert.is(error.message, "unknown flag --landscape.reference-prompts; did you mean --landscape.reference.prompts?");
    await throwsMessage(() => resolved("", "--seed"), "--seed: expected an integer, at least 0, got no value");
    await throwsMessage(() => resolved("", "--seed", "--verbose"), "--seed: expected an integer");
    await throwsMessage(() => resolved("", "--verbose=1"), '--verbose takes no value, got "1"');
    await throwsMessage(() => resolved("", "--zzzzzzzzzz"), "unknown flag --zzzzzzzzzz; --help lists all");
  });

  test("settings that contradict each other are refused, once each alone is right", async () => {
    await throwsMessage(() => resolved("", "--seed=6", "--landscape.reference.prompts=101"), "seed 6 does not go with");
    resolved("", "--seed=6", "--landscape.reference.prompts=100");
  });

  test("files: unreadable, not TOML, duplicate keys, values of other types", async () => {
    await throwsMessage(() => readTomlFile(settings, join(temporary, "none.toml")), "none.toml: no such file");
    const path = join(temporary, "broken.toml");
    writeFileSync(path, "seed = 1\ntrain = = 2\n");
    await throwsMessage(() => readTomlFile(settings, path), `${path}, line 2, column 9: invalid value`);
    await throwsMessage(() => resolved("seed = 1\nseed = 2"), "study.toml, line 2", "redefine");
    await throwsMessage(
      () => resolved('seed = "1"'),
      'seed: expected an integer, at least 0, got "1" (study.toml, line 1)',
    );
    await throwsMessage(() => resolved("seed = 1979-05-27"), "seed: expected an integer, at least 0, got ");
    await throwsMessage(() => resolved("landscape.trim = 1"), "got 1 (study.toml, line 1)");
    await throwsMessage(() => resolved("landscape = { points = 1 }"), "got 1 (study.toml)");
  });

  test("written TOML reads back to the same values, in one order, and keeps no free setting", () => {
    const values = resolved(
      [
        'seed = 3\n[landscape]\nspans = [1e-9, 0.1, 5e-324, 12345678901, -0.5]\nmodels = ["a \\"b\\"", "ü\\n#", ""]',
      ].join(""),
      ...["--train.rate=3e-7", "--out=elsewhere"],
    );
    const toml = writeToml(settings, values);
    assert.equal(resolved(toml), { ...values, out: "runs/tiny" });
    assert.is(writeToml(settings, resolved(toml)), toml);
    assert.not.match(toml, "elsewhere");
    assert.match(toml, "# points along each axis | odd. An integer from 3 to 201 (points).\npoints = 7\n");
    assert.equal(Object.keys(parse(toml)), ["seed", "train", "landscape"]);
  });

  test("a file to start from: all commented out it gives the defaults, all taken in the values it shows", () => {
    const values = resolved("", "--seed=3", "--landscape.points=9", "--landscape.models=a,ü");
    const template = settingsTemplate(settings, values, new Set(["seed"]), "node study.ts own.toml");
    assert.equal(resolved(template), { ...defaultSettings(settings), seed: 3 });
    const taken = template.replaceAll(/^# (\w+ = )/gm, "$1");
    assert.equal(resolved(taken), values);
    assert.match(
      template,
      "# Points along each axis | odd. An integer from 3 to 201 (points). Default: 7.\n# points = 9\n",
    );
    for (const key of settings.byKey.keys())
      assert.match(template, new RegExp(`^(# )?${key.slice(key.lastIndexOf(".") + 1)} = `, "m"));
  });

  test("free settings are kept where the study cannot be repeated without them; what does not apply is not", () => {
    const kinds = defineSettings(
      {
        kind: choice({ options: ["a", "b"], default: "a", meaning: "which" }),
        path: text({ default: "", changes: "free", isRecorded: true, meaning: "where" }),
        a: { size: integer({ default: 1, meaning: "of a" }) },
        b: { size: integer({ default: 1, meaning: "of b" }) },
      },
      () => [],
      { applies: (key, { kind }) => !/^[ab]\./.test(key) || key.startsWith(kind) },
    );
    const values = { kind: "a", path: "here", a: { size: 2 }, b: { size: 3 } } as const;
    const written = writeToml(kinds, values);
    assert.match(written, 'path = "here"');
    assert.equal(Object.keys(parse(written)), ["kind", "path", "a"]);
    const after = { ...values, path: "there", b: { size: 4 } };
    assert.equal(
      diffSettings(kinds, values, after).map(({ key, effect }) => [key, effect]),
      [["path", "free"]],
    );
    assert.equal(withValues(kinds, values, new Map([["a.size", 9]])), { ...values, a: { size: 9 } });
  });

  test("sections that are added after the declaration are read as the others", () => {
    const tree: Record<string, SettingsTree> = { first: { x: integer({ default: 1, meaning: "x" }) } };
    const open = defineSettings(tree);
    const toml = () => resolveSettings(open, [readToml(open, "[second]\ny = 5", "own.toml")]);
    addSection(tree, "second", { y: integer({ default: 2, meaning: "y" }) });
    assert.equal(toml(), { first: { x: 1 }, second: { y: 5 } });
  });

  test("other names: a former one is read from a file with a note, another program's is answered", async () => {
    const named = defineSettings({ train: { steps: integer({ default: 1, meaning: "steps" }) } }, () => [], {
      names: {
        renamed: new Map([["steps", "train.steps"]]),
        answer: (key) => (key.endsWith("beta") ? "there is none, because" : null),
      },
    });
    const source = readToml(named, "steps = 4\n", "own.toml");
    assert.equal(source.notes, ["own.toml, line 1: steps is now train.steps"]);
    assert.is(resolveSettings(named, [source]).train.steps, 4);
    const flagProblems = (...argv: string[]) => readFlags(named, [], argv).source.problems;
    assert.equal(flagProblems("--steps", "4"), ["--steps is now --train.steps"]);
    assert.equal(flagProblems("--train.beta=0"), ["unknown flag --train.beta; there is none, because"]);
    await throwsMessage(
      () => resolveSettings(named, [readToml(named, "train.beta = 0", "own.toml")]),
      "unknown setting train.beta (own.toml, line 1); there is none, because",
    );
  });

  test("a near name is offered only if it is really near", () => {
    const names = ["train.beta1", "train.beta2", "train.steps", "evaluate.temperature", "landscape.points", "seed"];
    for (const [typed, near] of [
      ["train.step", ["train.steps"]],
      ["train.Steps", ["train.steps"]],
      ["landscape.piont", []], // three edits from "points"
      ["landscape.pionts", ["landscape.points"]],
      ["points", ["landscape.points"]],
      ["train.temperature", []], // another section's: something else
      ["train.lr", []],
      ["sed", ["seed"]],
      ["speeds", []],
      ["train.beta", ["train.beta1", "train.beta2"]],
    ] as const)
      assert.equal(nearestNames(typed, names), near, typed);
  });

  test("help and documentation name every setting with its default", () => {
    const help = flagsHelp(settings, 80);
    const table = markdownTable(settings);
    for (const [key, setting] of settings.byKey) {
      assert.match(help, `--${key}`);
      assert.match(help, setting.expected.split(" ")[0].slice(1));
      assert.is(table.split("\n").filter((line) => line.startsWith(`| \`${key}\` |`)).length, 1, key);
    }
    assert.match(help, "--landscape.trim | --no-landscape.trim");
    assert.ok(help.split("\n").every((line) => line.length <= 80));
    assert.match(table, "| `train.steps` | an integer, at least 1 | `10` | steps | extends | optimiser steps |\n");
    assert.match(table, "each axis \\| odd |");
  });

  test("differences are told with what they do to a run folder", () => {
    const before = defaultSettings(settings);
    const after = resolved(
      "",
      "--out=x",
      "--train.steps=20",
      "--train.rate=0.5",
      "--landscape.points=13",
      "--landscape.rings=2,3,1",
    );
    assert.equal(
      diffSettings(settings, before, after).map(({ line, effect }) => [line, effect]),
      [
        ['out: "runs/tiny" -> "x"', "free"],
        ["train.steps: 10 -> 20", "extends"],
        ["train.rate: 0.000001 -> 0.5", "alters"],
        ["landscape.points: 7 -> 13", "extends"],
        ["landscape.rings: [1,2] -> [2,3,1]", "extends"],
      ],
    );
    const back = diffSettings(settings, after, before).map(({ key, effect }) => [key, effect]);
    assert.equal(
      back.filter(([, effect]) => effect === "extends"),
      [],
    );
    assert.is(diffSettings(settings, before, resolved("", "--landscape.points=9"))[0].effect, "alters");
    assert.equal(diffSettings(settings, before, before), []);
  });

  test("a declaration that contradicts itself is our own mistake", async () => {
    await throwsMessage(
      () => defineSettings({ a: { b: integer({ default: 0, min: 1, meaning: "" }) } }),
      "setting a.b: its default does not fit its own bounds",
    );
    await throwsMessage(() => defineSettings({ "a.b": integer({ default: 0, meaning: "" }) }), "letters and digits");
  });
});

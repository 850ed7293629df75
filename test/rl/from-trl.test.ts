// docs/from-trl.md: every field of TRL's GRPOConfig is there, with a setting that exists or the reason why there is none.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { is, match, ok } from "uvu/assert";
import { readToml, resolveSettings } from "../../engine/host/index.ts";
import { studySettings } from "../../landscape/settings.ts";
import { answerToOtherNames } from "../../rl/other-names.ts";
import { describe } from "../support.ts";
import { counterpart, fromTrlTables, settingsIn, type TrlConfig } from "./from-trl.ts";
import { readKnown } from "./known/read.ts";

const page = readFileSync(fileURLToPath(new URL("../../docs/from-trl.md", import.meta.url)), "utf8");
const { fields, versions } = readKnown<TrlConfig>("trl-config.json");

describe("rl/from-trl", (test) => {
  test("the page has the tables that rl/other-names.ts gives, and names the versions", () => {
    ok(
      page.endsWith(fromTrlTables()),
      "docs/from-trl.md: replace its tables by the output of node test/rl/from-trl.ts",
    );
    match(page, `trl ${versions.trl}`);
    match(page, `transformers ${versions.transformers}`);
  });

  test("every field has an answer; one that says where it is begins with a setting, one without says why", () => {
    ok(fields.length > 180, `${fields.length} fields`);
    for (const { name } of fields) {
      const answer = answerToOtherNames(name);
      ok(answer !== null, `${name}: no answer`);
      if (answer.startsWith("here it is")) ok(counterpart(answer) !== null, `${name}: ${answer}`);
      else match(answer, /^there is none(, because |: ).{10}/, name);
    }
  });

  test("every name in backticks in the column of settings is a setting", () => {
    const rows = page.split("\n").filter((line) => line.startsWith("| `"));
    let count = 0;
    for (const row of rows) {
      const cell = row.split(/(?<!\\)\|/)[3] ?? "";
      for (const [, name] of cell.matchAll(/`([^`]+)`/g)) {
        ok(studySettings.byKey.has(name), `${name} is no setting: ${row}`);
        count++;
      }
    }
    ok(count > 60, `${count} settings are named`);
    is(settingsIn("`train.loss` and no.such").join(), "train.loss");
  });

  test("the example is valid settings", () => {
    const example = page.match(/```toml\n([\s\S]*?)```/)?.[1] ?? "";
    ok(example.length > 50, "no example");
    const { train } = resolveSettings(studySettings, [readToml(studySettings, example, "from-trl.md")]);
    is(train.normalisation, "batch-token");
  });
});

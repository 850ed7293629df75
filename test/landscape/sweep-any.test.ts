// Maps around given checkpoints: in shards, on a growing grid, and recomputed. All have the bits of one undisturbed run.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { openJournal, readJournal } from "../../engine/host/index.ts";
import { journalledCell } from "../../landscape/files/cells.ts";
import { findCheckpoints } from "../../landscape/files/given-checkpoints.ts";
import { nestedIndices } from "../../landscape/grid.ts";
import { bf16Difference, expectOneFamily } from "../../landscape/measure/checkpoint-family.ts";
import { shardCells } from "../../landscape/shard.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";
import { contents, type Ended, expectDone, expectSame, type Flags, small, start } from "./tiny-study.ts";

const model = fixturePath("tiny-warm-start");

describe("landscape/sweep-any", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-sweep-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  for (const name of ["checkpoint-2", "checkpoint-10"]) cpSync(model, join(place, "out", name), { recursive: true });
  const at = (name: string): string => join(place, name);

  const sweepOf = (out: string, flags: Flags = {}, environment: NodeJS.ProcessEnv = {}): Promise<Ended> => {
    const of = Object.entries({ ...small, ...flags, out: at(out) }).filter(
      ([key]) => /^(out|shard|landscape)/.test(key) && key !== "landscape.steps",
    );
    const named = { checkpoints: flags["checkpoints"] ?? at("out/checkpoint-2") };
    const argv = [...Object.entries(named), ...of].flatMap(([key, value]) => [`--${key}`, value]);
    return start(["landscape/sweep.ts", "tiny", ...argv], environment).ended;
  };
  const merge = (...argv: string[]): Promise<Ended> => start(["landscape/merge.ts", ...argv]).ended;

  test("shards cover every cell once, in stripes", () => {
    const grid = { points: 5, radius: 0.05 };
    for (const count of [1, 2, 3, 7]) {
      const shards = Array.from({ length: count }, (_, index) => shardCells(`${index}/${count}`, grid));
      const names = shards.flat().map(({ i, j }) => 5 * i + j);
      assert.equal(
        names.sort((a, b) => a - b),
        Array.from({ length: 25 }, (_, k) => k),
      );
      for (const shard of shards) {
        const own = shard.map(({ i, j }) => 5 * i + j);
        assert.is(Math.max(...own) - Math.min(...own), own.length - 1, "one stripe");
      }
    }
  });

  test("grids nest by bits", () => {
    assert.equal(nestedIndices({ points: 3, radius: 0.05 }, { points: 5, radius: 0.05 }), [0, 2, 4]);
    assert.equal(nestedIndices({ points: 3, radius: 0.05 }, { points: 5, radius: 0.1 }), [1, 2, 3]);
    assert.is(nestedIndices({ points: 5, radius: 0.05 }, { points: 3, radius: 0.05 }), null);
    assert.is(nestedIndices({ points: 3, radius: 0.05 }, { points: 4, radius: 0.05 }), null);
  });

  test("checkpoint folders of several trainers, and their steps", () => {
    assert.equal(
      findCheckpoints([at("out/checkpoint-*")]).map(({ step }) => step),
      [2, 10],
    );
    cpSync(model, at("verl/global_step_20/actor/huggingface"), { recursive: true });
    cpSync(model, at("prime/weights/step_000040"), { recursive: true });
    assert.equal(findCheckpoints([at("verl/global_step_*"), at("prime/weights/step_*"), "ORG/NAME@main=7"]), [
      { step: 7, path: "ORG/NAME@main" },
      { step: 20, path: at("verl/global_step_20/actor/huggingface") },
      { step: 40, path: at("prime/weights/step_000040") },
    ]);
    assert.equal(findCheckpoints([model]), [{ step: 0, path: model }]);
    throwsMessage(() => findCheckpoints([model, at("out/checkpoint-2")]), "its name has no step");
    throwsMessage(() => findCheckpoints([at("none-*")]), "there is no such folder");
    mkdirSync(at("shards/global_step_5/actor/huggingface"), { recursive: true });
    writeFileSync(at("shards/global_step_5/actor/model_world_size_2_rank_0.pt"), "");
    throwsMessage(() => findCheckpoints([at("shards/global_step_5")]), "verl.model_merger merge --backend fsdp");
  });

  test("other shapes and chat templates are refused by name; equal weights differ in no element", async () => {
    const refusal = (folder: string): Promise<string> =>
      expectOneFamily([
        { name: "one", folder: model },
        { name: "other", folder },
      ]).then(
        () => "",
        (error: Error) => error.message,
      );
    assert.match(await refusal(fixturePath("qwen2-tiny")), /one and other have different shapes: "/);
    cpSync(model, at("template"), { recursive: true });
    writeFileSync(
      at("template/chat_template.jinja"),
      "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}",
    );
    assert.match(await refusal(at("template")), /one and other have different chat templates/);
    assert.is(await refusal(model), "");
    assert.is(await bf16Difference(model, model), 0);
  });

  test("2 and 3 shards merge to the bytes of one machine, also after a kill", async () => {
    expectDone(await sweepOf("whole"));
    const whole = contents(at("whole"));
    for (const count of [2, 3]) {
      const names = Array.from({ length: count }, (_, index) => `part-${count}-${index}`);
      for (const [index, name] of names.entries()) {
        const shard = { shard: `${index}/${count}` };
        if (count === 3 && index === 1) {
          const killed = await sweepOf(name, shard, { FOOTHOLD_KILL_AT: "cells:2" });
          assert.is(killed.signal, "SIGKILL", killed.stderr);
        }
        expectDone(await sweepOf(name, shard));
      }
      const merged = at(`merged-${count}`);
      expectDone(await merge(merged, ...names.map(at)));
      renameSync(at("whole"), at("whole-aside"));
      renameSync(merged, at("whole")); // the report shows the folder's name
      expectDone(await start(["landscape/report.ts", at("whole")]).ended);
      expectSame(contents(at("whole")), whole);
      renameSync(at("whole"), merged);
      renameSync(at("whole-aside"), at("whole"));
    }
  });

  test("shards of two studies and of two drivers are refused; mixed ones are marked", async () => {
    expectDone(await sweepOf("seed", { shard: "1/2", "landscape.seed": "9" }));
    const { status, stderr } = await merge(at("none"), at("part-2-0"), at("seed"));
    assert.is(status, 2);
    assert.match(stderr, /landscape\.seed/);
    assert.not.ok(existsSync(at("none")));
    cpSync(at("part-2-1"), at("driver"), { recursive: true });
    const path = join(at("driver"), "provenance.json");
    writeFileSync(path, readFileSync(path, "utf8").replace(/"adapter": "/, "$&another "));
    const refused = await merge(at("none"), at("part-2-0"), at("driver"));
    assert.is(refused.status, 2);
    assert.match(refused.stderr, /--allow-mixed/);
    expectDone(await merge(at("mixed"), at("part-2-0"), at("driver"), "--allow-mixed"));
    assert.match(readFileSync(at("mixed/figures/reward-map.svg"), "utf8"), /different\s+drivers/);
  });

  test("a grid that grows has the bits of a fresh one, up to order", async () => {
    cpSync(at("whole"), at("grown"), { recursive: true });
    expectDone(await sweepOf("grown", { "landscape.points": "5" }));
    expectDone(await sweepOf("fresh", { "landscape.points": "5" }));
    const lines = (name: string): unknown[] =>
      readJournal(at(`${name}/landscape/step-000002/slice-0/cells.jsonl`), journalledCell, (message) => {
        throw new Error(message);
      }).records.sort((a, b) => a.i - b.i || a.j - b.j);
    assert.equal(lines("grown"), lines("fresh"));
    const csv = "landscape/step-000002/slice-0/points.csv";
    assert.is(readFileSync(at(`grown/${csv}`), "utf8"), readFileSync(at(`fresh/${csv}`), "utf8"));
    const { status, stderr } = await sweepOf("grown", { "landscape.points": "4" });
    assert.is(status, 2);
    assert.match(stderr, /landscape\.points: 5 -> 4[\s\S]*--out /);
  });

  test("verify finds the bits again, and a changed cell", async () => {
    const verify = (...argv: string[]): Promise<Ended> => start(["landscape/verify.ts", at("whole"), ...argv]).ended;
    const right = await verify("--cells", "2");
    expectDone(right);
    assert.match(right.stdout, /2 of 2 cells have the same bits/);
    const path = at("whole/landscape/step-000002/slice-0/cells.jsonl");
    const { records } = readJournal(path, journalledCell, () => {});
    rmSync(path);
    const { journal } = openJournal(path, journalledCell, () => {});
    for (const record of records) {
      const reward = record.rollouts.reward.map((of) => of.map((one) => one + (record.i === 0 ? 1e-9 : 0)));
      journal.append({ ...record, rollouts: { ...record.rollouts, reward } });
    }
    journal.close();
    const wrong = await verify("--cell", "0:1,1:1");
    assert.is(wrong.status, 1, wrong.stderr);
    assert.match(wrong.stdout, /cell \(0, 1\).*BEYOND ROUNDING.*difference/);
    assert.match(wrong.stdout, /cell \(1, 1\).*the same bits/);
  });
});

// Shards of a sweep: together they cover every cell, they merge to the bytes of one machine, and cells can be computed again.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { openJournal, readJournal } from "../../engine/host/index.ts";
import { journalledCell } from "../../landscape/files/cells.ts";
import { mergeShards } from "../../landscape/files/merge-shards.ts";
import { redraw } from "../../landscape/report/report.ts";
import { shardCells } from "../../landscape/shard.ts";
import { describe, throwsMessage } from "../support.ts";
import { sweepCommand, sweepIn, warmModel } from "./given-sweep.ts";
import { contents, expectDone, expectSame, start } from "./tiny-study.ts";

const signal = new AbortController().signal;

describe("landscape/shards", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-shards-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  // The report shows a folder's name, so all have the same.
  const at = (name: string): string => join(place, name, "run");
  const merge = async (out: string, parts: readonly string[], allowMixed = false): Promise<string> => {
    const said: string[] = [];
    const say = (line: string): void => void said.push(line);
    await mergeShards(at(out), parts.map(at), { allowMixed, say });
    await redraw(at(out), say, signal);
    return said.join("\n");
  };

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

  test("two shards, one killed and continued, one without drafts, merge to the bytes of one machine", async () => {
    await sweepIn(at("whole"), [warmModel]);
    const killed = await sweepCommand(at("part-0"), [warmModel], { shard: "0/2" }, { FOOTHOLD_KILL_AT: "cells:2" });
    assert.is(killed.signal, "SIGKILL", killed.stderr);
    await sweepIn(at("part-0"), [warmModel], { shard: "0/2" });
    await sweepIn(at("part-1"), [warmModel], { shard: "1/2", "landscape.drafts": "off" });
    const merging = ["landscape/merge.ts", at("merged"), at("part-0"), at("part-1")];
    const stopped = await start(merging, { FOOTHOLD_KILL_AT: "write-folder:1" }).ended;
    assert.is(stopped.signal, "SIGKILL", stopped.stderr);
    assert.not.ok(existsSync(at("merged")));
    expectDone(await start(merging).ended);
    expectSame(contents(at("merged")), contents(at("whole")));
  });

  test("a cell that two shards have is compared, and does no harm", async () => {
    assert.match(await merge("doubled", ["part-0", "whole", "part-1"]), /9 cells were measured twice and compared/);
    expectSame(contents(at("doubled")), contents(at("whole")));
    assert.match(await merge("half", ["part-0"]), /slice 0: \d of 9 cells are in no shard/);
  });

  test("shards of two studies, drivers or revisions are refused; mixed ones are marked", async () => {
    const altered = (name: string, file: string, from: RegExp, to: string): string => {
      cpSync(at("part-1"), at(name), { recursive: true });
      const path = join(at(name), file);
      const text = readFileSync(path, "utf8");
      assert.match(text, from);
      writeFileSync(path, text.replace(from, to));
      return name;
    };
    const refused = (name: string, message: string): Promise<Error> =>
      throwsMessage(() => merge("none", ["part-0", name]), message);
    await refused(
      altered("seed", "config.toml", /(\[landscape\]\n(?:.*\n)*?seed = )\d+/, "$199"),
      "landscape.seed: 1 -> 99",
    );
    await refused(altered("driver", "provenance.json", /"adapter": "/, "$&another "), "--allow-mixed");
    await refused(
      altered("revision", "provenance.json", /"gitRevision": .*,/, '"gitRevision": "abc",'),
      "--allow-mixed",
    );
    await refused(
      altered("checkpoint", "checkpoints/step-000000.json", /("model.safetensors": ")./, "$1x"),
      "the checkpoints of step 0 differ",
    );
    assert.not.ok(existsSync(at("none")));
    await merge("mixed", ["part-0", "driver"], true);
    assert.match(readFileSync(join(at("mixed"), "figures/reward-map.svg"), "utf8"), /different\s+drivers/);
  });

  test("verify finds the bits again, and a changed cell", async () => {
    const path = join(at("whole"), "landscape/step-000000/slice-0/cells.jsonl");
    const { records } = readJournal(path, journalledCell, () => {});
    rmSync(path);
    const { journal } = openJournal(path, journalledCell, () => {});
    for (const record of records) {
      const reward = record.rollouts.reward.map((of) => of.map((one) => one + (record.i === 0 ? 1e-9 : 0)));
      journal.append({ ...record, rollouts: { ...record.rollouts, reward } });
    }
    journal.close();
    const wrong = await start(["landscape/verify.ts", at("whole"), "--cell", "0:1,1:1"]).ended;
    assert.is(wrong.status, 1, wrong.stderr);
    assert.match(wrong.stdout, /cell \(0, 1\).*OTHER BITS.*difference/);
    assert.match(wrong.stdout, /cell \(1, 1\).*the same bits/);
    const mixed = await start(["landscape/verify.ts", at("mixed"), "--cell", "1:1"]).ended;
    assert.match(expectDone(mixed) + mixed.stdout, /1 of 1 cells have R, J and KL within one standard error/);
  });
});

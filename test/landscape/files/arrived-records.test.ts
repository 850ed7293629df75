// Records that arrive in any order end in the journal of one machine, also when the process ends in between.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { ArrivedRecords, settleRecords } from "../../../landscape/files/arrived-records.ts";
import { type NoiseDraw, noiseJournal } from "../../../landscape/files/noise-files.ts";
import { describe } from "../../support.ts";

const size = { noiseFloor: 4, rollouts: { prompts: 1, rollouts: 2 } };
const draw = (number: number): NoiseDraw => ({ draw: number, reward: [[number, 0.5]] });
const say = (): void => {};

describe("landscape/files/arrived-records", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-records-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const journalOf = (name: string) => noiseJournal(join(place, name), 0, size);
  const take = (name: string, draws: readonly number[]): void => {
    const records = new ArrivedRecords(journalOf(name), say);
    for (const one of draws) records.take(draw(one));
    records.close();
  };
  const bytes = (name: string): string => readFileSync(journalOf(name).path, "utf8");

  test("in order, in another order, and in two processes", () => {
    take("ordered", [1, 2, 3, 4]);
    take("mixed", [3, 1, 4, 2]);
    take("twice", [4, 2]);
    take("twice", [3, 1]);
    for (const name of ["mixed", "twice"]) {
      assert.is(bytes(name), bytes("ordered"));
      assert.not.ok(existsSync(journalOf(name).earlier));
    }
    const records = new ArrivedRecords(journalOf("mixed"), say);
    assert.is(records.size, 4);
    assert.ok(records.isSame(draw(2)));
    assert.not.ok(records.isSame({ draw: 2, reward: [[2, 0.5 + 1e-9]] }));
    records.close();
  });

  test("records in another order are set aside for one machine, a beginning in order stays", () => {
    take("part", [1, 2]);
    settleRecords(journalOf("part"), say);
    assert.ok(existsSync(journalOf("part").path));
    take("odd", [3, 1]);
    settleRecords(journalOf("odd"), say);
    assert.not.ok(existsSync(journalOf("odd").path));
    // A queue goes on from there too.
    take("odd", [2, 4]);
    assert.is(bytes("odd"), bytes("ordered"));
  });

  test("a process that ended after the records were set aside, or were written in order", () => {
    take("ended", [2, 1, 3]);
    settleRecords(journalOf("ended"), say);
    take("ended", []);
    take("ended", [4]);
    assert.is(bytes("ended"), bytes("ordered"));
    const { path, earlier } = journalOf("ended");
    take("other", [4, 3, 2]);
    settleRecords(journalOf("other"), say);
    rmSync(path);
    take("other", []);
    assert.ok(existsSync(journalOf("other").earlier));
    assert.not.ok(existsSync(earlier));
  });

  test("draws of fewer rollouts are made again", () => {
    const smaller = noiseJournal(join(place, "smaller"), 0, { ...size, rollouts: { prompts: 1, rollouts: 1 } });
    const before = new ArrivedRecords(smaller, say);
    before.take({ draw: 2, reward: [[2]] });
    before.take({ draw: 1, reward: [[1]] });
    before.close();
    settleRecords(smaller, say);
    const records = new ArrivedRecords(journalOf("smaller"), say);
    assert.is(records.partial, 2);
    assert.is(records.size, 0);
    for (const one of [2, 1, 4, 3]) records.take(draw(one));
    records.close();
    assert.is(bytes("smaller"), bytes("ordered"));
  });
});

// Cells that arrive in any order end as the bytes of one machine, also when the process is killed while they are put in order.
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { ArrivedCells, settleOrder } from "../../../landscape/files/arrived-cells.ts";
import { type CellRecord, openCells } from "../../../landscape/files/cells.ts";
import { slicePaths } from "../../../landscape/files/layout.ts";
import { rayCoordinatesOf, readEarlier, setAsideSlice } from "../../../landscape/files/set-aside.ts";
import { workOrder } from "../../../landscape/grid.ts";
import { labelledRandom } from "../../../rl/index.ts";
import { describe } from "../../support.ts";
import { records } from "../synthetic-cells.ts";
import { contents, expectSame } from "../tiny-study.ts";

const grid = { points: 3, radius: 0.05 };
const order = workOrder(grid);
const map = (): Float64Array => Float64Array.from({ length: 9 }, (_, at) => Math.sin(at));
const { cells } = records(
  { reward: [map(), map()], kl: [map(), map()], objective: [map(), map()], cells: order },
  grid,
);
const said = ({ i, j }: CellRecord): string => `{"reward":0,"messages":[{"role":"user","content":"${i},${j}"}]}\n`;
const say = (line: string): never => {
  throw new Error(line);
};

describe("landscape/files/arrived-cells", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-arrived-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  const expected = join(place, "expected");
  const writer = openCells(expected, say);
  for (const cell of cells) writer.append(cell, said(cell));
  writer.close();
  const open = (folder: string): ArrivedCells => new ArrivedCells(folder, order, () => true, say);
  const shuffled = (seed: number): CellRecord[] => {
    const all = [...cells];
    labelledRandom(`arrived|${seed}`).shuffle(all);
    return all;
  };

  test("in any order", async () => {
    for (let seed = 0; seed < 4; seed++) {
      const folder = join(place, `order-${seed}`);
      const arrived = open(folder);
      for (const cell of seed === 0 ? cells : shuffled(seed)) {
        await arrived.take(cell, said(cell));
        assert.ok(arrived.has(cell));
        assert.ok(arrived.isSame(cell, said(cell)));
        assert.not.ok(arrived.isSame(cell, ""));
        assert.not.ok(arrived.isSame({ ...cell, firstDifference: [] }, said(cell)));
      }
      arrived.close();
      expectSame(contents(folder), contents(expected));
    }
  });

  test("killed at each moment of putting them in order", async () => {
    const all = shuffled(7);
    const before = join(place, "before");
    const arrived = open(before);
    for (const cell of all.slice(0, -1)) await arrived.take(cell, said(cell));
    arrived.close();
    const last = all[all.length - 1];
    const finish = async (name: string): Promise<void> => {
      const again = open(join(place, name));
      again.settle();
      if (!again.has(last)) await again.take(last, said(last));
      again.close();
      expectSame(contents(join(place, name)), contents(expected));
      assert.not.ok(existsSync(slicePaths(join(place, name)).earlier));
    };
    const copy = (from: string, to: string): string => {
      cpSync(join(place, from), join(place, to), { recursive: true });
      return join(place, to);
    };
    await setAsideSlice(copy("before", "aside"), say);
    copy("aside", "aside-1");
    await finish("aside-1"); // killed before the last cell was added
    const added = openCells(slicePaths(copy("aside", "added")).earlier, say);
    added.append(last, said(last));
    added.close();
    copy("added", "added-1");
    await finish("added-1"); // killed before the first cell was written in order
    const part = openCells(copy("added", "part"), say);
    for (const cell of cells.slice(0, 5)) part.append(cell, said(cell));
    part.close();
    await finish("part"); // killed in the middle of them
  });

  test("a sweep that goes on alone finds them aside", async () => {
    const folder = join(place, "alone");
    const arrived = open(folder);
    for (const cell of shuffled(3).slice(0, 7)) await arrived.take(cell, said(cell));
    arrived.close();
    await settleOrder(folder, order, say);
    assert.not.ok(existsSync(slicePaths(folder).cells));
    assert.is(readEarlier(folder, say).size, 7);
    const sorted = join(place, "sorted");
    cpSync(expected, sorted, { recursive: true });
    await settleOrder(sorted, order, say);
    expectSame(contents(sorted), contents(expected));
  });

  test("points of several rays at one radius: each is kept, in any order, and found aside", async () => {
    const onRays = cells.map((cell, k) => ({ ...cell, i: k >> 1, j: k & 1, alpha: k & 1 ? -0.05 : 0.05, beta: 0 }));
    const points = onRays.map(({ i, j, alpha, beta }) => ({ i, j, alpha, beta }));
    const [whole, folder, alone] = ["rays", "rays-arrived", "rays-alone"].map((name) => join(place, name));
    const plain = openCells(whole, say);
    for (const cell of onRays) plain.append(cell, said(cell));
    plain.close();
    for (const [into, count] of [
      [folder, 9],
      [alone, 7],
    ] as const) {
      const arrived = new ArrivedCells(into, points, () => true, say, rayCoordinatesOf);
      for (const cell of [...onRays].reverse().slice(0, count)) await arrived.take(cell, said(cell));
      arrived.close();
    }
    expectSame(contents(folder), contents(whole));
    await settleOrder(alone, points, say, rayCoordinatesOf);
    assert.is(readEarlier(alone, say, rayCoordinatesOf).size, 7);
  });
});

// Tables of rows: each call gives the table of its runs, whatever was there before, in few buffers.
import * as assert from "uvu/assert";
import type { RowGroup } from "../../engine/parameters.ts";
import { RowTables } from "../../engine/row-tables.ts";
import { webgpuBackend } from "../backends.ts";
import { describe, throwsMessage } from "../support.ts";

/** Runs of these lengths, of points 0, 1, … */
function runsOf(...counts: number[]): RowGroup[] {
  let start = 0;
  return counts.map((count, point) => {
    start += count;
    return { start: start - count, count, point };
  });
}

/** What a table must hold. Point p lies in slot 2 − p. */
function expected(rows: readonly RowGroup[], height: number): number[] {
  return rows.flatMap(({ start, count, point }) =>
    Array.from({ length: Math.ceil(count / height) }, (_, tile) => [
      start + tile * height,
      Math.min(height, count - tile * height),
      2 - point,
    ]).flat(),
  );
}

const total = (rows: readonly RowGroup[]): number => rows.reduce((sum, { count }) => sum + count, 0);

describe("engine/row-tables", (test) => {
  test("many lists of runs take turns: each gets its own table, and no more than four per height are kept", async () => {
    const { backend } = await webgpuBackend();
    await backend.idle();
    const before = backend.statistics().liveBuffers;
    const tables = new RowTables(backend);
    tables.assign(new Map([0, 1, 2].map((point) => [point, 2 - point])));
    // The same lists again and again, as passes that repeat have them; some get longer than the memory of their place.
    const lists = Array.from({ length: 7 }, (_, i) => runsOf(1 + i, 40 * i + 3, i === 4 ? 0 : 2));
    for (const i of [0, 1, 2, 3, 4, 5, 6, 0, 0, 6, 5, 1, 0, 3, 2, 6])
      for (const height of [1, 4, 32]) {
        const found = tables.tilesOf("test", lists[i], total(lists[i]), height);
        if (found === null) throw new Error("no table");
        const values = expected(lists[i], height);
        assert.is(found.count, values.length / 3);
        assert.equal([...(await found.tiles.read())], values, `list ${i}, height ${height}`);
        // An equal list is found too.
        const again = tables.tilesOf("test", [...lists[i]], total(lists[i]), height);
        assert.is(again?.tiles, found.tiles);
      }
    assert.is(backend.statistics().liveBuffers - before, 3 * 4);
    tables.free();
    assert.is(backend.statistics().liveBuffers, before);
  });

  test("other slots give other tables", async () => {
    const { backend } = await webgpuBackend();
    const tables = new RowTables(backend);
    const rows = runsOf(3, 2);
    tables.assign(new Map([0, 1].map((point) => [point, 2 - point])));
    const first = [...((await tables.tilesOf("test", rows, 5, 2)?.tiles.read()) ?? [])];
    tables.assign(new Map([0, 1].map((point) => [point, point])));
    const second = [...((await tables.tilesOf("test", rows, 5, 2)?.tiles.read()) ?? [])];
    assert.equal(first, [0, 2, 2, 2, 1, 2, 3, 2, 1]);
    assert.equal(second, [0, 2, 0, 2, 1, 0, 3, 2, 1]);
    await throwsMessage(() => tables.tilesOf("test", [...rows], 6, 2), "test");
    tables.free();
  });
});

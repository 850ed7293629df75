// The tuner: what it remembers, and that nothing about its file can fail a run.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebGpuBackend } from "../../../../engine/backends/webgpu/backend.ts";
import {
  chooseTile,
  preferredTiles,
  preferTiles,
  shapeClass,
  type TileChoice,
} from "../../../../engine/ops/matmul/tiles.ts";
import { measureTiles, tuneTiles } from "../../../../engine/ops/matmul/tune.ts";
import { webgpuBackend } from "../../../backends.ts";
import { describe } from "../../../support.ts";

async function ownBackend(description?: string): Promise<WebGpuBackend> {
  const { backend } = await webgpuBackend();
  assert.ok(backend instanceof WebGpuBackend);
  return new WebGpuBackend(backend.device, {
    description: description ?? backend.description,
    style: backend.style,
    memory: backend.memory,
  });
}

describe("engine/ops/matmul/tune", (test) => {
  const before = process.env["FOOTHOLD_CACHE"];
  const folder = mkdtempSync(join(tmpdir(), "foothold-tune-"));
  process.env["FOOTHOLD_CACHE"] = folder;
  test.after(() => {
    if (before === undefined) delete process.env["FOOTHOLD_CACHE"];
    else process.env["FOOTHOLD_CACHE"] = before;
    rmSync(folder, { recursive: true, force: true });
  });
  const fileOf = (): string => {
    const [name] = readdirSync(join(folder, "tiles"));
    return join(folder, "tiles", name);
  };

  test("measures, writes what it found, and takes it from the file the next time", async () => {
    const backend = await ownBackend();
    const choice = await tuneTiles(backend);
    assert.deepEqual(preferredTiles(backend), choice);
    const written: unknown = JSON.parse(readFileSync(fileOf(), "utf8"));
    assert.deepEqual(written, { schemaVersion: 1, adapter: backend.description, tiles: choice });
    for (const [key, { tile }] of Object.entries(choice)) assert.match(key, /^(forward|input|weight) f32 /, tile);

    // Another choice in the file shows that it is read: nothing would measure it.
    const key = shapeClass("forward", "f32", 1);
    const own = chooseTile(await ownBackend(), "forward", "f32", 1, true);
    writeFileSync(
      fileOf(),
      JSON.stringify({ schemaVersion: 1, adapter: backend.description, tiles: { [key]: own } satisfies TileChoice }),
    );
    const again = await ownBackend();
    const dispatches = again.statistics().dispatches;
    const read = await tuneTiles(again);
    assert.equal(again.statistics().dispatches, dispatches);
    assert.deepEqual(read, { [key]: own });
  });

  test("a file that is damaged, of another adapter, or names no known tile is measured anew and replaced", async () => {
    const backend = await ownBackend();
    const key = shapeClass("forward", "f32", 1);
    const of = (adapter: string, tiles: object): string => JSON.stringify({ schemaVersion: 1, adapter, tiles });
    for (const text of [
      "",
      "{",
      of("another", {}),
      of(backend.description, { [key]: { tile: "no such tile", constants: {} } }),
      of(backend.description, { [key]: { tile: "thin", constants: { LANES: 4096, ROWS: 1 } } }),
      of(backend.description, { "no such class": chooseTile(backend, "forward", "f32", 1, true) }),
    ]) {
      writeFileSync(fileOf(), text);
      const fresh = await ownBackend();
      await tuneTiles(fresh);
      assert.ok(fresh.statistics().dispatches > 0, `this was taken for a choice: ${text}`);
      assert.notEqual(readFileSync(fileOf(), "utf8"), text);
    }
  });

  test("a place that cannot be written costs the time, and is said", async () => {
    const file = join(folder, "not a folder");
    writeFileSync(file, "");
    process.env["FOOTHOLD_CACHE"] = file;
    const said: string[] = [];
    const write = process.stderr.write.bind(process.stderr);
    process.stderr.write = (text) => said.push(String(text)) > 0;
    try {
      const backend = await ownBackend();
      const choice = await tuneTiles(backend);
      assert.deepEqual(preferredTiles(backend), choice);
      assert.equal(said.length, 1);
      assert.match(said[0], /were measured, but cannot be noted in the cache.*FOOTHOLD_CACHE.*not a folder/);
    } finally {
      process.env["FOOTHOLD_CACHE"] = folder;
      process.stderr.write = write;
    }
  });

  test("measuring leaves a pinned choice and no buffer behind", async () => {
    const backend = await ownBackend();
    const form = chooseTile(backend, "forward", "f32", 64, true);
    const pinned: TileChoice = { [shapeClass("forward", "f32", 64)]: form };
    preferTiles(backend, pinned);
    const { liveBuffers } = backend.statistics();
    await measureTiles(backend);
    assert.equal(preferredTiles(backend), pinned);
    assert.equal(backend.statistics().liveBuffers, liveBuffers);
  });
});

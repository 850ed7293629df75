// Where the cache lies: chosen, standard, or in the temporary folder. Places are made unwritable by a file in the way,
// which also stops root.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { FileError } from "../../../engine/host/errors.ts";
import { cacheFolder } from "../../../engine/host/host-cache.ts";
import { describe, throwsMessage } from "../../support.ts";

const temporary = mkdtempSync(join(tmpdir(), "foothold-test-cache-"));
const blocked = join(temporary, "a-file");
writeFileSync(blocked, "");

/** Runs `body` with these variables set, those that are null unset. */
function within<T>(variables: Record<string, string | null>, body: () => T): T {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  const set = (name: string, value: string | null | undefined) => {
    if (value === null || value === undefined) delete process.env[name];
    else process.env[name] = value;
  };
  for (const [name, value] of Object.entries(variables)) set(name, value);
  try {
    return body();
  } finally {
    for (const [name, value] of before) set(name, value);
  }
}

describe("engine/host/host-cache", (test) => {
  test.after(() => rmSync(temporary, { recursive: true, force: true }));
  const none = { FOOTHOLD_CACHE: null, XDG_CACHE_HOME: null };

  test("FOOTHOLD_CACHE, else XDG_CACHE_HOME, else the home folder; made, and for its owner only", () => {
    const chosen = join(temporary, "chosen");
    const xdg = join(temporary, "xdg");
    const home = join(temporary, "home");
    const folders = [
      within({ FOOTHOLD_CACHE: chosen, XDG_CACHE_HOME: xdg, HOME: home }, () => cacheFolder("a", "b")),
      within({ ...none, XDG_CACHE_HOME: xdg, HOME: home }, () => cacheFolder("a")),
      within({ ...none, HOME: home }, () => cacheFolder("a")),
      within({ ...none, XDG_CACHE_HOME: "relative", HOME: home }, () => cacheFolder()),
    ];
    assert.equal(folders, [
      join(chosen, "a", "b"),
      join(xdg, "foothold", "a"),
      join(home, ".cache", "foothold", "a"),
      join(home, ".cache", "foothold"),
    ]);
    for (const folder of folders) assert.is(statSync(folder).mode & 0o777, 0o700);
  });

  test("a home that cannot be written gives way to the temporary folder; a chosen place does not", async () => {
    const folder = within({ ...none, HOME: blocked, TMPDIR: temporary }, () => cacheFolder("swiftshader"));
    assert.match(folder, /foothold-cache-[^/]+\/swiftshader$/);
    assert.ok(folder.startsWith(temporary));
    const error = await throwsMessage(
      () => within({ FOOTHOLD_CACHE: blocked }, () => cacheFolder("x")),
      "FOOTHOLD_CACHE: expected a folder that can be written",
      blocked,
    );
    assert.instance(error, FileError);
    await throwsMessage(
      () => within({ ...none, HOME: blocked, TMPDIR: blocked }, () => cacheFolder("x")),
      "Set FOOTHOLD_CACHE to one that can",
    );
  });

  if (process.getuid?.() === 0) test.skip("a home without write permission", "root may write anywhere");
  else
    test("a home without write permission gives way to the temporary folder", () => {
      const home = join(temporary, "read-only-home");
      mkdirSync(home);
      chmodSync(home, 0o500);
      assert.match(
        within({ ...none, HOME: home, TMPDIR: temporary }, () => cacheFolder("x")),
        "foothold-cache-",
      );
    });
});

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brokenLinks, commandsOf, documentsOf, missingOf } from "./readme.ts";
import { describe } from "./support.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

describe("test/readme", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-readme-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [file, text] of Object.entries({
    "package.json": '{ "scripts": { "start": "node a.ts", "lint": "x" } }',
    "a.ts": "",
    "docs/b.md": "# One & two\n\n## Three\n\n## Three\n",
  })) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
  const linksOf = (text: string): string[] => {
    writeFileSync(join(folder, "README.md"), text);
    return brokenLinks(folder, "README.md");
  };

  for (const file of documentsOf(root)) {
    const text = readFileSync(join(root, file), "utf8");
    test(`${file}: its commands exist`, () => {
      const missing = commandsOf(text).flatMap((command) => {
        const found = missingOf(command, root);
        return found === null ? [] : [`${command}: ${found}`];
      });
      assert.deepEqual(missing, []);
    });
    test(`${file}: its links lead somewhere`, () => assert.deepEqual(brokenLinks(root, file), []));
  }
  test("the README has commands and links to check", () => {
    const text = readFileSync(join(root, "README.md"), "utf8");
    assert.ok(commandsOf(text).length >= 3 && /\]\(docs\//.test(text));
  });

  test("commands are found in blocks and in spans", () =>
    assert.deepEqual(
      commandsOf(
        "```\nnpm ci && npm start   # all of it\n$ CI=1 node a.ts --x 1\nls\n```\nand `npx node a.ts`, not `npm` or `x`\n",
      ),
      ["npm ci", "npm start", "node a.ts --x 1", "npx node a.ts"],
    ));
  test("a command that does not exist is found", () => {
    for (const command of [
      "npm ci",
      "npm start",
      "npm run --silent lint",
      "node a.ts b.ts",
      "npx node a.ts",
      "npx tsc",
      "node foothold/a.ts",
      "node --import ./mine.ts a.ts",
    ])
      assert.equal(missingOf(command, folder), null, command);
    assert.equal(missingOf("npm test", folder), 'package.json has no script "test"');
    assert.equal(missingOf("npm run check", folder), 'package.json has no script "check"');
    assert.equal(missingOf("node b.ts", folder), "there is no b.ts");
    assert.equal(missingOf("npx node b.ts", folder), "there is no b.ts");
  });
  test("a link that leads nowhere is found, whatever its form", () => {
    for (const text of ["[x](c.md)", "![x](c.png)", "[x][1]\n\n[1]: c.md", '<img src="c.png">', "[x](docs/b.md#four)"])
      assert.equal(linksOf(text).length, 1, text);
    for (const text of [
      "[x](docs/b.md)",
      "[x](docs/b.md#one--two)",
      "[x](docs/b.md#three-1)",
      "[x](docs)",
      "`[x](c.md)`",
    ])
      assert.deepEqual(linksOf(text), [], text);
    assert.deepEqual(linksOf("[x](https://example.org/c.md) [y](mailto:a@b.c)\n```\n[x](c.md)\n```\n"), []);
  });
});

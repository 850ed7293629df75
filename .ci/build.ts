// npm run build: compiles the project into dist/, as `npm pack` ships it. Node does not run TypeScript under
// node_modules, so a package must contain JavaScript. Everything else that a floor reads at run time (WGSL, presets,
// fonts, styles, the embedded model) is copied to the same place below dist/, so that `new URL("./x.wgsl",
// import.meta.url)` works there too.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const floors = ["engine", "model", "rl", "landscape"];
const target = join(root, "dist");

rmSync(target, { recursive: true, force: true });
execFileSync(
  process.execPath,
  [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.build.json")],
  {
    stdio: "inherit",
  },
);
for (const floor of floors)
  for (const file of readdirSync(join(root, floor), { recursive: true, withFileTypes: true })) {
    if (!file.isFile() || file.name.endsWith(".ts") || file.name === "README.md") continue;
    const path = join(file.parentPath, file.name);
    cpSync(path, join(target, path.slice(root.length)));
  }
// The program reads only the version from it; Node reads that these files are modules.
const { name, version, type } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
writeFileSync(join(target, "package.json"), `${JSON.stringify({ name, version, type }, null, 2)}\n`);

// The compiler rewrites import paths in JavaScript only. A declaration that names a .ts file would refer to a file that
// does not exist.
for (const file of readdirSync(target, { recursive: true, encoding: "utf8" }))
  if (file.endsWith(".d.ts")) {
    const path = join(target, file);
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.replaceAll(/((?:from|import\() ?"\.[^"\n]*)\.ts"/g, '$1.js"'));
  }
chmodSync(join(target, "landscape/foothold.js"), 0o755);

// The floor plan, checked from the imports: engine/host ← engine ← model ← rl ← landscape, each entered through its
// public face only, without cycles. The engine lies around its ground floor and may enter any room of it. `violations`
// takes any folder, so that the rules themselves are tested on small made-up trees.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const folders = ["engine", "model", "rl", "landscape"];
const floors = ["engine/host", ...folders];
/** Folders that may import anything; no file outside imports them. */
const outside = ["bench", "test"];
/** The files through which other floors may import a floor. */
const faces = new Set(floors.map((floor) => `${floor}/index.ts`));

/** Specifiers of imports and re-exports, of types as well; of dynamic imports, also in types; and of modules named by a URL. */
const importPatterns = [
  /(?:^|[\n;])\s*(?:import|export)\b[^;"']*?\bfrom\s*["']([^"']+)["']/g,
  /(?:^|[\n;])\s*import\s*["']([^"']+)["']/g,
  /\bimport\(\s*["'`]([^"'`]+)["'`]/g,
  /\bnew URL\(\s*["'`]([^"'`]+\.ts)["'`]\s*,\s*import\.meta\.url/g,
];

export interface Import {
  from: string;
  to: string;
}

export function importsOf(root: string): { files: string[]; imports: Import[] } {
  const files = [...folders, ...outside]
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((file) => join(folder, file)),
    )
    .filter((file) => file.endsWith(".ts") && !file.includes("node_modules") && !file.startsWith("test/fixtures"))
    .sort();
  const imports: Import[] = [];
  for (const from of files) {
    const text = readFileSync(join(root, from), "utf8").replaceAll(/\/\*[\s\S]*?\*\/|(^|\s)\/\/[^\n]*/g, "$1");
    for (const pattern of importPatterns)
      for (const [, specifier] of text.matchAll(pattern))
        if (specifier.startsWith(".") && !specifier.includes("${"))
          imports.push({ from, to: relative(root, resolve(root, dirname(from), specifier)) });
  }
  return { files, imports };
}

/** Every breach of the plan, one line each. */
export function violations(root: string): string[] {
  const { files, imports } = importsOf(root);
  const found: string[] = [];
  const floorOf = (file: string): string => (file.startsWith("engine/host/") ? "engine/host" : file.split("/")[0]);
  for (const { from, to } of imports) {
    const [own, other] = [floorOf(from), floorOf(to)];
    if (outside.includes(own)) continue;
    if (outside.includes(other)) found.push(`${from} imports ${to}: nothing stands on ${other}/`);
    else if (own !== other && floors.includes(other)) {
      if (floors.indexOf(other) > floors.indexOf(own)) found.push(`${from} imports ${to}: ${other}/ is above ${own}/`);
      if (!faces.has(to) && !(own === "engine" && other === "engine/host"))
        found.push(`${from} imports ${to}: it goes past ${other}/index.ts`);
    }
  }
  for (const file of files) {
    if (file.endsWith("/utils.ts")) found.push(`${file}: a helper lives with what it helps`);
    const mirrored = dirname(file).replace(/^test\/?/, "");
    if (file.endsWith(".test.ts") && !existsSync(join(root, mirrored)))
      found.push(`${file}: test/ mirrors the tree, there is no ${mirrored}/`);
  }
  const cycle = findCycle(files, imports);
  if (cycle !== null) found.push(`cycle: ${cycle.join(" → ")}`);
  return found;
}

function findCycle(files: readonly string[], imports: readonly Import[]): string[] | null {
  const next = new Map<string, string[]>();
  for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return null;
    path.push(file);
    for (const to of next.get(file) ?? []) {
      const cycle = visit(to);
      if (cycle !== null) return cycle;
    }
    path.pop();
    done.add(file);
    return null;
  };
  for (const file of files) {
    const cycle = visit(file);
    if (cycle !== null) return cycle;
  }
  return null;
}

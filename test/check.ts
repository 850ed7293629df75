// npm run check: the checks that need no adapter, in under a minute. Types, lint and format, the floor plan, every
// variant of every kernel compiled on Dawn's null backend, and the tests that open no adapter and start no process.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { violations } from "./floor-plan.ts";
import { allKernels, compileKernels, unusedShaders } from "./shaders.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const total = { passed: 0, failed: 0 };

interface Part {
  passed: number;
  problems: readonly string[];
  failed?: number;
}

async function part(name: string, body: () => Part | Promise<Part>): Promise<void> {
  const start = performance.now();
  const { passed, problems, failed = problems.length } = await body();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  for (const problem of problems) console.log(problem);
  console.log(`${failed === 0 ? "ok    " : "FAILED"}  ${seconds.padStart(5)} s  ${name}`);
  total.passed += passed;
  total.failed += failed;
}

function node(...words: string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: root, encoding: "utf8" });
  return { status, text: `${stdout}${stderr}`.trim() };
}

/** A tool without counts of its own: it counts as one pass or one failure. */
function tool(...words: string[]): Part {
  const { status, text } = node(...words);
  return status === 0 ? { passed: 1, problems: [] } : { passed: 0, problems: [text], failed: 1 };
}

await part("types (tsc)", () => tool("node_modules/typescript/bin/tsc", "--noEmit"));
await part("lint and format (biome)", () =>
  tool("node_modules/@biomejs/biome/bin/biome", "check", "--error-on-warnings", "."),
);
await part("floor plan", () => {
  const problems = violations(root);
  return { passed: problems.length === 0 ? 1 : 0, problems };
});

const kernels = await allKernels();
await part(`${kernels.length} kernels compiled`, async () => {
  const { forms, problems } = await compileKernels(kernels);
  const unused = unusedShaders(kernels).map((file) => `${file}: no kernel uses it`);
  return { passed: Math.max(0, forms - problems.length), problems: [...problems, ...unused] };
});

await part("unit tests (test/run.ts --unit)", () => {
  const { status, text } = node("test/run.ts", "--unit");
  const [, passed = "0", failed = "1"] = text.match(/^(\d+) passed, (\d+) failed/m) ?? [];
  const missed = status === 0 ? 0 : Math.max(1, Number(failed));
  return { passed: Number(passed), problems: missed === 0 ? [] : [text], failed: missed };
});

console.log(`${total.passed} passed, ${total.failed} failed`);
process.exit(total.failed === 0 ? 0 : 1);

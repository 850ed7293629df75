// npm run test:package: tests what a user gets who installs the package into an empty folder.
//
// Packs the project, installs the archive beside Node 20 and a strict TypeScript compiler, compiles and runs a program
// that uses each of its public entry points with skipLibCheck off, and runs the `foothold` command. Needs the npm
// registry.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "foothold-package-"));
const most = { packedBytes: 10_000_000, seconds: 300 };
/** The oldest Node that the package promises to run on, its compiler, and types for both. */
const beside = ["node@20.20.0", "typescript@7.0.2", "@types/node@24"];

const program = `
import { fromArray, openBackend, scopeAsync, ShapeError, type Tensor } from "foothold/engine";
import { openCheckpoint, type ChatMessage } from "foothold/model";
import { groupAdvantages } from "foothold/rl";
import { studySettings } from "foothold/landscape";

const { backend } = await openBackend();
const values = await scopeAsync(async () => {
  const x: Tensor = fromArray(backend, [1, 2, 3]);
  return [...(await x.read())];
});
const message: ChatMessage = { role: "user", content: "Sort these names." };
const checkpoint = openCheckpoint(process.argv[2] ?? "");
console.log(JSON.stringify({
  values,
  webgpu: backend.kind,
  role: message.role,
  checkpoint: typeof checkpoint,
  advantages: groupAdvantages("grpo", [0, 1]).length,
  settings: studySettings.byKey.size > 20,
  error: new ShapeError("x").name,
  node: process.versions.node.split(".")[0],
}));
`;
/** Plain JavaScript, so that Node 20 loads it. */
const ownEnvironment = `
import { labelledRandom, registerEnvironment } from "foothold/rl";
registerEnvironment({
  name: "odd",
  settings: {},
  open: () => ({
    name: "odd",
    *episodes(seed) {
      for (let index = 0; ; index++) {
        const number = labelledRandom(\`odd|\${seed}|\${index}\`).randint(0, 10 ** 6);
        const score = ([answer = ""]) => {
          const reward = answer.length % 2;
          return { reward, parts: { turnScores: [reward], formatFailed: [false] } };
        };
        yield { index, prompt: \`Is \${number} odd?\`, turns: 1, nextUserTurn: () => null, score };
      }
    },
  }),
});
`;
const compilerOptions = {
  module: "nodenext",
  target: "es2023",
  strict: true,
  skipLibCheck: false,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  types: ["node"],
  rootDir: "src",
  outDir: "out",
};

let [passed, failed] = [0, 0];
function check(name: string, body: () => string | undefined): void {
  try {
    const said = body();
    passed++;
    console.log(`ok      ${name}${said === undefined ? "" : `: ${said}`}`);
  } catch (thrown) {
    failed++;
    console.log(`FAILED  ${name}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
}

function expect(isSo: boolean, what: string): void {
  if (!isSo) throw new Error(what);
}

function run(command: string, words: readonly string[], cwd = folder): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(command, words, { cwd, encoding: "utf8", timeout: most.seconds * 1000 });
  return { status, text: `${stdout}${stderr}` };
}

function succeed(command: string, words: readonly string[], cwd = folder): string {
  const { status, text } = run(command, words, cwd);
  expect(status === 0, `${command} ${words.join(" ")}: exit code ${status}\n${text}`);
  return text;
}

const bin = (name: string): string => join(folder, "node_modules/.bin", name);
const installed = join(folder, "node_modules/foothold");
const model = join(installed, "dist/rl/presets/tiny/checkpoint");
/** The command as installed, on the Node that was installed beside it. */
const foothold = (...words: string[]) => run(bin("node"), [bin("foothold"), ...words]);

try {
  const archive = execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], {
    cwd: root,
    encoding: "utf8",
  })
    .trim()
    .split("\n")
    .at(-1);
  if (archive === undefined) throw new Error("npm pack named no file");
  check("the package is small", () => {
    const { size } = statSync(join(folder, archive));
    expect(size < most.packedBytes, `${size} bytes, expected fewer than ${most.packedBytes}`);
    return `${(size / 1e6).toFixed(1)} MB packed`;
  });
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }));
  succeed("npm", ["install", "--no-audit", "--no-fund", join(folder, archive), ...beside]);
  check("it runs on the oldest Node it promises", () => succeed(bin("node"), ["--version"]).trim());

  check("it holds what is read at run time, and no source or test", () => {
    for (const file of [
      "dist/engine/ops/shared/philox.wgsl",
      "dist/rl/presets/tiny.toml",
      "dist/rl/presets/tiny/checkpoint/model.safetensors",
      "dist/landscape/report/figures/fonts/SourceSans3-Regular.ttf",
      "dist/engine/index.d.ts",
      "dist/engine/index.js.map",
    ])
      expect(existsSync(join(installed, file)), `${file} is missing`);
    const files = readdirSync(installed, { recursive: true, encoding: "utf8" });
    const odd = files.filter(
      (file) => /^(test|bench)\//.test(file) || (file.endsWith(".ts") && !file.endsWith(".d.ts")),
    );
    expect(odd.length === 0, `not expected: ${odd.slice(0, 5).join(", ")}`);
    return `${files.length} files`;
  });

  mkdirSync(join(folder, "src"));
  writeFileSync(join(folder, "src/program.ts"), program);
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["src/program.ts"] }));
  check("a strict consumer compiles", () => {
    succeed(process.execPath, [join(folder, "node_modules/typescript/bin/tsc")]);
    return undefined;
  });
  check("and runs", () => {
    const out = succeed(bin("node"), [join(folder, "out/program.js"), model]);
    const [line = ""] = out.split("\n").filter((text) => text.startsWith("{"));
    const { values, node, settings } = JSON.parse(line);
    expect(JSON.stringify(values) === "[1,2,3]" && node === "20" && settings === true, line);
    return line;
  });

  check("foothold --help lists its commands, and each has its own help in its own words", () => {
    const { status, text } = foothold("--help");
    expect(status === 0, text);
    const commands = [...text.matchAll(/^ {2}([a-z-]+) {2,}/gm)].map(([, name]) => name);
    for (const command of ["study", "train", "evaluate", "show", "generate"])
      expect(commands.includes(command), `${command} is missing: ${text}`);
    for (const command of commands) {
      const help = foothold(command, "--help");
      expect(help.status === 0 && help.text.includes(`Usage: foothold ${command}`), `${command}: ${help.text}`);
      expect(!/node \w+\/[\w-]+\.ts/.test(help.text), `${command} --help speaks of the clone:\n${help.text}`);
    }
    return commands.join(", ");
  });
  check("an unknown command is refused with the nearest", () => {
    const { status, text } = foothold("stdy");
    expect(status === 2 && text.includes("Did you mean study?"), `${status}: ${text}`);
    return undefined;
  });
  check("foothold generate writes text", () => {
    const { status, text } = foothold("generate", "--model", model, "--prompt", "Sort", "--max-new-tokens", "5");
    expect(status === 0 && /5 tokens/.test(text), text);
    return undefined;
  });
  check("an environment of the user's own, in a module beside it", () => {
    writeFileSync(join(folder, "odd.mjs"), ownEnvironment);
    const small =
      "--environment.module odd.mjs --environment.name odd --train.steps 1 --train.checkpoints 1 --evaluate.episodes 4";
    const { status, text } = foothold(
      "study",
      "tiny",
      ...small.split(" "),
      "--landscape.steps=",
      "--out",
      "own",
      "--quiet",
    );
    expect(status === 0 && existsSync(join(folder, "own/checkpoints/step-000001")), text);
    return undefined;
  });
  check("foothold train, evaluate and show work one after another", () => {
    const small = "--train.steps 1 --train.checkpoints 0,1 --evaluate.episodes 4 --out trained --quiet";
    const trained = foothold("train", "tiny", ...small.split(" "));
    expect(trained.status === 0 && existsSync(join(folder, "trained/checkpoints/step-000001")), trained.text);
    const evaluated = foothold("evaluate", "trained", "--quiet");
    expect(evaluated.status === 0 && /^Reward: \d/m.test(evaluated.text), evaluated.text);
    const shown = foothold("show", "trained", "--quiet");
    expect(shown.status === 0 && shown.text.includes("Tokens that moved most"), shown.text);
    return undefined;
  });
  check("foothold study runs to its report", () => {
    const small = "--train.steps 1 --train.checkpoints 1 --landscape.steps 1 --landscape.points 3 --out run --quiet";
    const { status, text } = foothold("study", "tiny", ...small.split(" "));
    expect(status === 0 && existsSync(join(folder, "run/report.html")), text);
    const again = foothold("report", "run");
    expect(again.status === 0, again.text);
    return undefined;
  });
} catch (thrown) {
  failed++;
  console.log(`FAILED  ${thrown instanceof Error ? thrown.message : String(thrown)}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

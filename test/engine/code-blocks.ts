// Programs out of a page, run from outside the source tree, as a reader would: in a folder of their own, where
// `foothold/engine` is the engine of this checkout.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const engine = new URL("../../engine/index.ts", import.meta.url);

export interface CodeBlock {
  readonly language: string;
  readonly text: string;
  /** The file that the paragraph before the block names in backticks, if it ends with a colon: "`use.ts`, the use:". */
  readonly file: string | null;
}

/** The fenced blocks of a page, in order. */
export function codeBlocks(page: string): CodeBlock[] {
  return [...page.matchAll(/(?:^(.*:)\n\n)?^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, lead = "", language, text]) => ({
    language,
    text,
    file: /`([\w.-]+\.\w+)`/.exec(lead)?.[1] ?? null,
  }));
}

/** A new folder with these files, in which programs find `foothold/engine`. */
export function projectFolder(files: Readonly<Record<string, string>>): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "foothold-project-"));
  for (const [file, text] of Object.entries({
    ...files,
    "package.json": '{ "type": "module" }',
    "node_modules/foothold/package.json": '{ "type": "module", "exports": { "./engine": "./engine.js" } }',
    "node_modules/foothold/engine.js": `export * from ${JSON.stringify(engine.href)};\n`,
  })) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Runs a program of the folder. @returns what it printed @throws Error with what it said, when it fails */
export function runProgram(folder: string, file: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [file], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    let [printed, said] = ["", ""];
    child.stdout.on("data", (data: Buffer) => (printed += data));
    child.stderr.on("data", (data: Buffer) => (said += data));
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) resolve(printed);
      else reject(new Error(`${file} ended with ${code ?? signal}:\n${printed}${said}`));
    });
  });
}

/** What the compiler finds wrong with a program of the folder, under this project's own strict settings; "" for nothing. */
export function typeErrors(folder: string, file: string): string {
  const settings = {
    extends: join(root, "tsconfig.json"),
    compilerOptions: {
      typeRoots: [join(root, "node_modules/@types")],
      types: ["node", join(root, "node_modules/@webgpu/types")],
      paths: { "foothold/engine": [fileURLToPath(engine)] },
    },
    include: [],
    files: [file],
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(settings));
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" });
  return status === 0 ? "" : `${stdout}${stderr}` || `tsc ended with ${status}`;
}

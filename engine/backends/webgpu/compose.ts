// Composes a kernel's WGSL: its file unchanged, and below it (so that line numbers stay right) the parameter block, the
// constants and the shared functions that it uses. The order of declarations at module scope does not matter in WGSL.
import { existsSync, readFileSync } from "node:fs";
import { type AnyKernel, type Constants, parameterBlock } from "../../kernel.ts";

const files = new Map<string, string>();

function readText(url: URL): string {
  const found = files.get(url.href);
  if (found !== undefined) return found;
  const text = readFileSync(url, "utf8");
  files.set(url.href, text);
  return text;
}

/**
 * The file of a shared function: beside the kernel's own WGSL if it is there, else in engine/ops/shared. So a kernel of
 * another floor or project can bring its own functions.
 */
export function sharedFile(kernel: AnyKernel, name: string): URL {
  const beside = new URL(`./${name}.wgsl`, kernel.wgsl);
  return existsSync(beside) ? beside : new URL(`../../ops/shared/${name}.wgsl`, import.meta.url);
}

const directives = /^(enable|diagnostic\b).*;/gm;

/** The whole WGSL of a kernel with these constants. */
export function composeWgsl(kernel: AnyKernel, constants: Constants): string {
  const body = unroll(readText(kernel.wgsl), constants);
  const shared = kernel.uses.map((name) => unroll(readText(sharedFile(kernel, name)), constants));
  checkBindings(kernel, [body, ...shared].join("\n"), constants);
  // Extensions that shared functions need must be enabled before anything else, and diagnostics be set: on the first
  // line of the kernel's file.
  const enables = shared.flatMap((text) => text.match(directives) ?? []);
  const fields = parameterBlock(kernel).map(({ name, type }) => `  ${name}: ${type},`);
  return [
    [...new Set(enables), body].join(" "),
    `struct Params {\n${fields.join("\n")}\n}`,
    `@group(0) @binding(${Object.keys(kernel.bindings).length}) var<uniform> params: Params;`,
    ...Object.entries(constants).map(([name, value]) => declaration(name, value)),
    ...shared.map((text) => text.replace(directives, "")),
  ].join("\n");
}

/** Longer loops are left to the driver's compiler: its time grows faster than the text. */
const mostRounds = 16;
const markedLoop = /\/\* @unroll \*\/ for \(var (\w+) = 0u; \1 < (\w+); \1\+\+\) \{/;

/**
 * Unrolls the loops that are marked, one block per round, in which the index is a constant:
 *   `/* unroll *\/ for (var i = 0u; i < COUNT; i++) { body }` becomes `{ const i = 0u; body } { const i = 1u; body } …`
 * COUNT is one of the kernel's constants or a number; above `mostRounds` the loop stays. Arrays indexed by constants
 * live in registers: SwiftShader, which unrolls nothing itself, runs such a kernel four times as fast. Blocks after the
 * first are put on its last line, so that line numbers stay right. A loop inside may be marked too.
 */
export function unroll(text: string, constants: Constants): string {
  const found = markedLoop.exec(text);
  if (found === null) return text;
  const [head, index, bound] = found;
  const count = Number(constants[bound] ?? bound.replace(/u$/, ""));
  if (!Number.isInteger(count)) throw new Error(`unroll: ${head} needs the constant ${bound}`);
  const start = found.index + head.length;
  let end = start;
  for (let depth = 1; depth > 0; end++) {
    if (end === text.length) throw new Error(`unroll: ${head} is not closed`);
    depth += text[end] === "{" ? 1 : text[end] === "}" ? -1 : 0;
  }
  const body = unroll(text.slice(start, end - 1), constants);
  const rest = unroll(text.slice(end), constants);
  const flat = body.replace(/\/\/.*$/gm, "").replace(/\s*\n\s*/g, " ");
  const blocks = Array.from({ length: count }, (_, i) => `{ const ${index} = ${i}u;${i === 0 ? body : flat}}`);
  const loop = count > mostRounds ? `${head}${body}}` : blocks.join(" ");
  return text.slice(0, found.index) + loop + rest;
}

/** Text constants are types (`Element: "f16"`); whole numbers are u32. */
function declaration(name: string, value: number | boolean | string): string {
  if (typeof value === "string") return `alias ${name} = ${value};`;
  if (typeof value === "boolean") return `const ${name} = ${value};`;
  return Number.isInteger(value) ? `const ${name} = ${value}u;` : `const ${name}: f32 = ${value};`;
}

/**
 * The files declare their own storage bindings, so that they read as WGSL; this compares them with the contract. A shared file
 * may declare one too, whose number is a constant: it differs from kernel to kernel.
 */
function checkBindings(kernel: AnyKernel, text: string, constants: Constants): void {
  const declared = [
    ...text.matchAll(/@group\(0\)\s*@binding\((\w+)\)\s*var<storage,\s*(read|read_write)>\s*(\w+)\s*:/g),
  ];
  const expected = Object.entries(kernel.bindings).map(
    ([name, { access }], i) => `${i} ${access === "read" ? "read" : "read_write"} ${name}`,
  );
  const found = declared.map(([, index, access, name]) => `${constants[index] ?? index} ${access} ${name}`);
  if (expected.join() !== found.join())
    throw new Error(
      `${kernel.name}: its WGSL declares bindings (${found.join("; ")}), its contract (${expected.join("; ")})`,
    );
}

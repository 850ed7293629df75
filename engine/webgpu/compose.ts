// Puts a kernel's WGSL together: the file as it stands, and below it (so that line numbers stay true) the parameter block,
// the constants and the shared functions that it uses. Module scope has no order in WGSL.
import { readFileSync } from "node:fs";
import { type AnyKernel, type Constants, parameterBlock } from "../kernel.ts";

const files = new Map<string, string>();

function readText(url: URL): string {
  const found = files.get(url.href);
  if (found !== undefined) return found;
  const text = readFileSync(url, "utf8");
  files.set(url.href, text);
  return text;
}

/** The whole WGSL of a kernel under these constants. */
export function composeWgsl(kernel: AnyKernel, constants: Constants): string {
  const body = readText(kernel.wgsl);
  checkBindings(kernel, body);
  const shared = kernel.uses.map((name) => readText(new URL(`./shared/${name}.wgsl`, import.meta.url)));
  const fields = parameterBlock(kernel).map(({ name, type }) => `  ${name}: ${type},`);
  return [
    body,
    `struct Params {\n${fields.join("\n")}\n}`,
    `@group(0) @binding(${Object.keys(kernel.bindings).length}) var<uniform> params: Params;`,
    ...Object.entries(constants).map(([name, value]) => declaration(name, value)),
    ...shared,
  ].join("\n");
}

/** Text constants are types (`Element: "f16"`); whole numbers are u32. */
function declaration(name: string, value: number | boolean | string): string {
  if (typeof value === "string") return `alias ${name} = ${value};`;
  if (typeof value === "boolean") return `const ${name} = ${value};`;
  return Number.isInteger(value) ? `const ${name} = ${value}u;` : `const ${name}: f32 = ${value};`;
}

/** The file declares its storage bindings itself, so that it reads as WGSL; here they are held against the contract. */
function checkBindings(kernel: AnyKernel, body: string): void {
  const declared = [...body.matchAll(/@group\(0\)\s*@binding\((\d+)\)\s*var<storage,\s*(read|read_write)>\s*(\w+)\s*:/g)];
  const expected = Object.entries(kernel.bindings).map(([name, { access }], i) => `${i} ${access === "read" ? "read" : "read_write"} ${name}`);
  const found = declared.map(([, index, access, name]) => `${index} ${access} ${name}`);
  if (expected.join() !== found.join())
    throw new Error(`${kernel.name}: its WGSL declares bindings (${found.join("; ")}), its contract (${expected.join("; ")})`);
}

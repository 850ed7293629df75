// A direction from files: a state dict in safetensors, in one file or in all files of a folder. It has the names and shapes of
// the weights that move. Everything missing or misshaped is named in one error, before any work begins.
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { CheckpointError, sha256File } from "../../../engine/host/index.ts";
import { openSafetensors } from "../../../model/index.ts";

type File = Awaited<ReturnType<typeof openSafetensors>>;

export interface StateDict {
  /** SHA-256 of each file, in the order of their names. */
  readonly sha256: readonly string[];
  /** Tensors that no moved weight has the name of: they are not used. */
  readonly unused: readonly string[];
  read(name: string): Promise<Float64Array>;
  close(): Promise<void>;
}

const shownFaults = 10;

/**
 * @param shapes  of the tensors that must be there
 * @param setting for messages
 * @throws CheckpointError naming every tensor that is missing, of another shape, stored twice or not of floats
 */
export async function openStateDict(
  path: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  setting: string,
): Promise<StateDict> {
  const files: File[] = [];
  const close = async (): Promise<void> => {
    for (const file of files) await file.close();
  };
  try {
    const paths = filesAt(path, setting);
    for (const one of paths) files.push(await openSafetensors(one));
    const holders = new Map<string, File>();
    const faults: string[] = [];
    for (const file of files)
      for (const { name, shape, dtype } of file.tensors.values()) {
        if (holders.has(name)) faults.push(`"${name}" is stored twice, in ${basename(file.path)} too`);
        holders.set(name, file);
        const expected = shapes.get(name);
        if (expected === undefined) continue;
        if (String(shape) !== String(expected)) faults.push(`"${name}" is [${shape}], the weight is [${expected}]`);
        if (!/^(f|bf)/.test(dtype)) faults.push(`"${name}" holds ${dtype}, expected floats`);
      }
    for (const [name, shape] of shapes) if (!holders.has(name)) faults.push(`"${name}" [${shape}] is missing`);
    if (faults.length > 0) refuse(path, setting, faults);
    return {
      sha256: paths.map(sha256File),
      unused: [...holders.keys()].filter((name) => !shapes.has(name)),
      read: async (name) => {
        const file = holders.get(name);
        if (file === undefined) throw new CheckpointError(`${path}: expected a tensor "${name}", there is none.`);
        return file.readFloat64(name);
      },
      close,
    };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

function filesAt(path: string, setting: string): string[] {
  if (!existsSync(path))
    throw new CheckpointError(`${path}: expected a safetensors file or a folder of them, there is none (${setting}).`);
  if (!statSync(path).isDirectory()) return [path];
  const names = readdirSync(path)
    .filter((name) => name.endsWith(".safetensors"))
    .sort();
  if (names.length === 0)
    throw new CheckpointError(`${path}: expected a folder with .safetensors files, it has none (${setting}).`);
  return names.map((name) => join(path, name));
}

function refuse(path: string, setting: string, faults: readonly string[]): never {
  const listed = faults.slice(0, shownFaults).map((fault) => `\n  ${fault}`);
  if (faults.length > shownFaults) listed.push(`\n  and ${faults.length - shownFaults} more`);
  throw new CheckpointError(
    `${path}: is no direction for this model (${setting}). It needs a tensor of the same name and shape for every weight ` +
      `that moves; landscape.directions.groups and leaveOut say which ones move.${listed.join("")}`,
  );
}

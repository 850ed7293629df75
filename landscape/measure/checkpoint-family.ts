// Checkpoints that are measured in one study must be of one training: the same shapes, tokenizer and chat template, so that
// prompts and directions are the same. How much two of them differ is measured too: a map's radius is relative to the
// weights, and if a training moved few weights by more than bf16 resolves, two maps differ by rounding alone.
import { join } from "node:path";
import { CheckpointError } from "../../engine/host/index.ts";
import { f32ToBf16 } from "../../engine/index.ts";
import { loadChat, loadTokenizer, openCheckpoint, readModelJson } from "../../model/index.ts";

export interface FamilyMember {
  /** As messages name it. */
  name: string;
  folder: string;
}

/**
 * @throws CheckpointError naming two checkpoints that differ in shapes, tokenizer or chat template
 */
export async function expectOneFamily(members: readonly FamilyMember[]): Promise<void> {
  const [first, ...others] = members;
  if (first === undefined) return;
  const expectedShapes = await shapesOf(first);
  const expected = await textTraitsOf(first);
  for (const other of others) {
    const shapes = await shapesOf(other);
    const differs = (what: string, details = ""): never => {
      throw new CheckpointError(
        `checkpoints: ${first.name} and ${other.name} have different ${what}${details}. Maps of them cannot be compared: ` +
          "measure them in two folders (--out).",
      );
    };
    const names = [...new Set([...expectedShapes.keys(), ...shapes.keys()])];
    const shape = names.find((name) => expectedShapes.get(name) !== shapes.get(name));
    if (shape !== undefined)
      differs(
        "shapes",
        `: "${shape}" is [${expectedShapes.get(shape) ?? "absent"}] and [${shapes.get(shape) ?? "absent"}]`,
      );
    const traits = await textTraitsOf(other);
    if (expected.tokenizer !== traits.tokenizer) differs("tokenizers", " (tokenizer.json)");
    if (expected.rendered !== traits.rendered)
      differs(
        "chat templates",
        `: they begin a conversation with ${JSON.stringify(expected.rendered.slice(0, 80))} and ${JSON.stringify(traits.rendered.slice(0, 80))}`,
      );
  }
}

async function shapesOf({ folder }: FamilyMember): Promise<ReadonlyMap<string, string>> {
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  return new Map([...checkpoint.shapes].map(([name, shape]) => [name, shape.join(", ")]));
}

/** What decides how a conversation becomes tokens. */
async function textTraitsOf({ folder }: FamilyMember): Promise<{ tokenizer: string; rendered: string }> {
  const chat = await loadChat(folder, await loadTokenizer(folder));
  const rendered = chat.render(
    [
      { role: "user", content: "one" },
      { role: "assistant", content: "two" },
      { role: "user", content: "three" },
    ],
    { addGenerationPrompt: true },
  );
  return { tokenizer: canonicalTokenizer(readModelJson(join(folder, "tokenizer.json"))), rendered };
}

/** What of tokenizer.json decides about tokens: programs write merges in two forms, and their own padding beside them. */
function canonicalTokenizer(json: unknown): string {
  const sorted = (value: unknown, key = ""): unknown => {
    if (Array.isArray(value))
      return key === "merges"
        ? value.map((merge: unknown) => (Array.isArray(merge) ? merge.join(" ") : merge))
        : value.map((one) => sorted(one));
    if (typeof value !== "object" || value === null) return value;
    return Object.entries(value)
      .filter(([name]) => name !== "truncation" && name !== "padding")
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, inner]) => [name, sorted(inner, name)]);
  };
  return JSON.stringify(sorted(json));
}

/**
 * The share of two checkpoints' elements that are different numbers once both are rounded to bf16 (to nearest, ties to even).
 * Both must have the same shapes.
 */
export async function bf16Difference(one: string, other: string, signal?: AbortSignal): Promise<number> {
  const [a, b] = [await openCheckpoint(one), await openCheckpoint(other)];
  try {
    let different = 0;
    let elements = 0;
    for (const name of a.shapes.keys()) {
      signal?.throwIfAborted();
      const theirs = b.chunks(name, pieceElements);
      for await (const { data } of a.chunks(name, pieceElements)) {
        const { value } = await theirs.next();
        const against: Float32Array = value.data;
        elements += data.length;
        for (let k = 0; k < data.length; k++) if (f32ToBf16(data[k]) !== f32ToBf16(against[k])) different++;
      }
    }
    return different / Math.max(1, elements);
  } finally {
    await a.close();
    await b.close();
  }
}

const pieceElements = 2 ** 20;

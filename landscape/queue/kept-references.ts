// The checkpoints' own completions, which every result brings along: the first is kept, and the others must be the same.
import { existsSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { readJson } from "../../engine/host/index.ts";
import { type ReferenceSet, referenceSet, writeReference } from "../files/cells.ts";
import { referencePath } from "../files/layout.ts";
import type { StudySettings } from "../settings.ts";
import { isReference } from "./result-shapes.ts";

export class KeptReferences {
  readonly #folder: string;
  readonly #landscape: Pick<StudySettings["landscape"], "reference">;
  readonly #sets = new Map<number, ReferenceSet>();

  constructor(folder: string, landscape: Pick<StudySettings["landscape"], "reference">) {
    this.#folder = folder;
    this.#landscape = landscape;
  }

  /** Reads those of a checkpoint around which something is measured. Those of a smaller study are others. */
  read(step: number): void {
    const path = referencePath(this.#folder, step);
    if (this.#sets.has(step) || !existsSync(path)) return;
    const set = readJson(path, referenceSet);
    if (isReference(set, this.#landscape)) this.#sets.set(step, set);
  }

  /** Whether others are known of this checkpoint. */
  differs(step: number, set: ReferenceSet): boolean {
    const known = this.#sets.get(step);
    return known !== undefined && !isDeepStrictEqual(known, set);
  }

  /** Writes them if none are known. */
  keep(step: number, set: ReferenceSet): void {
    if (this.#sets.has(step)) return;
    writeReference(this.#folder, step, set);
    this.#sets.set(step, set);
  }
}

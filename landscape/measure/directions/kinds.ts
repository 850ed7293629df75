// The kinds of direction, each as numbers before a norm rule:
//   gaussian               independent standard normals of the stream of seed, slice, axis and tensor
//   rank-1                 a matrix [O, I]: u·vᵀ with normals u [O] and v [I] of two streams of its own; other shapes: gaussian
//   gradient               ∇J at the checkpoint (objective-gradient.ts)
//   adamw-gradient         the step that AdamW would take with it
//   checkpoint-difference  θ_{t+k} − θ_t
//   pca                    a principal component of the checkpoints (weights/principal-components.ts), of length 1
//   file                   the tensors of a file
// Source of rank-1: Sarkar et al. 2025, "Evolution Strategies at the Hyperscale" (EGGROLL), with rank 1.
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { sha256File } from "../../../engine/host/index.ts";
import {
  empty,
  linear,
  type ParameterArena,
  perturbIntoSlot,
  philoxKey,
  scope,
  type Tensor,
  type WordPair,
  wordsOf,
  writeNormals,
} from "../../../engine/index.ts";
import { type Checkpoint, type LanguageModel, openCheckpoint } from "../../../model/index.ts";
import { openMoments } from "../../../rl/index.ts";
import type { AxisSettings } from "../../direction-settings.ts";
import type { StudySettings } from "../../settings.ts";
import { componentTensor, principalComponents } from "../../weights/principal-components.ts";
import type { Reference } from "../reference.ts";
import type { RawDirection } from "./norm-rules.ts";
import { adamwDirection, type ObjectiveGradient, objectiveGradient } from "./objective-gradient.ts";
import { openStateDict } from "./state-dict.ts";

/** Where directions that are made from checkpoints find them. */
export interface DirectionPlace {
  /** The step of the checkpoint in the centre. */
  readonly step: number;
  /** The steps whose principal components are asked for, ascending. */
  readonly trajectory: readonly number[];
  /** The folder of the optimiser's states; it need not exist. */
  readonly state: string;
  /** The folder of the checkpoint of a step. */
  folderOf(step: number): string;
}

export interface SourceContext {
  readonly config: LanguageModel;
  readonly arena: ParameterArena;
  readonly place: DirectionPlace;
  readonly reference: Reference;
  readonly settings: Pick<StudySettings, "train" | "batch">;
  /** The tensors that move. */
  readonly names: readonly string[];
  readonly signal?: AbortSignal;
  /** Shows the user a line: what is not as could be expected. */
  say(line: string): void;
  /** Whether no number is real: memory is planned. */
  readonly isRehearsal?: boolean;
}

export interface DirectionSource {
  readonly raw: RawDirection;
  /** What the numbers follow from, besides the settings: part of the slice's digest. */
  readonly origin: readonly string[];
  /** What a reader should know of it, if anything, in a few words. */
  readonly remark?: string;
}

/** Makes the raw directions of a slice. Files and gradients that several axes need are opened once, until `close`. */
export class DirectionSources {
  readonly #context: SourceContext;
  readonly #closing: (() => void | Promise<void>)[] = [];
  #gradient: Promise<ObjectiveGradient> | null = null;
  #checkpoints: Promise<Checkpoint[]> | null = null;

  constructor(context: SourceContext) {
    this.#context = context;
  }

  /**
   * @param axis   "delta", "eta": part of the streams' labels, and for messages
   * @param label  seed and slice, and the step if noise differs between checkpoints: the begin of the streams' labels
   */
  async open(axis: string, settings: AxisSettings, label: string): Promise<DirectionSource> {
    const { arena, isRehearsal } = this.#context;
    const written = (write: (name: string, into: Tensor) => void | Promise<void>): RawDirection => ({
      key: null,
      write: isRehearsal && !settings.kind.includes("gradient") ? () => {} : write,
    });
    switch (settings.kind) {
      case "gaussian":
        return { raw: { key: philoxKey(`${label}|${axis}`) }, origin: [] };
      case "rank-1": {
        const key = philoxKey(`${label}|${axis}|rank-1`);
        return { raw: { key: null, write: (name, into) => writeRankOne(name, into, key) }, origin: [] };
      }
      case "gradient":
        return {
          raw: written(async (name, into) => copyTensor((await this.#gradientOfJ()).arena.gradient(name), into)),
          origin: this.#gradientOrigin(),
        };
      case "adamw-gradient":
        return this.#adamwGradient(written);
      case "checkpoint-difference": {
        const folder = this.#context.place.folderOf(this.#context.place.step + settings.stepsAhead);
        if (isRehearsal) return { raw: written(() => {}), origin: [] };
        const other = this.#closeLater(await openCheckpoint(folder));
        const write = async (name: string, into: Tensor): Promise<void> => {
          const { data } = await other.tensor(name);
          const own = (await arena.read([name])).get(name) ?? [];
          into.write(Float64Array.from(data, (value, i) => value - own[i]));
        };
        return { raw: written(write), origin: weightSums(folder) };
      }
      case "pca":
        return this.#component(written, settings.component);
      case "file": {
        if (isRehearsal) return { raw: written(() => {}), origin: [] };
        const shapes = new Map(this.#context.names.map((name) => [name, arena.value(name).shape]));
        const file = this.#closeLater(await openStateDict(settings.file, shapes, `landscape.directions.${axis}.file`));
        if (file.unused.length > 0)
          this.#context.say(
            `${settings.file}: ${file.unused.length} of its tensors are no weights that move, and are not used: ` +
              `${file.unused.slice(0, 3).join(", ")}${file.unused.length > 3 ? " …" : ""}`,
          );
        return { raw: written(async (name, into) => into.write(await file.read(name))), origin: file.sha256 };
      }
      default:
        return settings.kind satisfies never;
    }
  }

  async close(): Promise<void> {
    for (const close of this.#closing) await close();
  }

  #closeLater<T extends { close(): void | Promise<void> }>(opened: T): T {
    this.#closing.push(() => opened.close());
    return opened;
  }

  #gradientOfJ(): Promise<ObjectiveGradient> {
    this.#gradient ??= (async () => {
      const { settings, ...job } = this.#context;
      const found = await objectiveGradient({
        ...job,
        train: settings.train,
        maxTokens: Math.min(settings.batch.trainTokens, settings.batch.tokens),
      });
      this.#closing.push(() => found.free());
      return found;
    })();
    return this.#gradient;
  }

  /** The gradient follows from the checkpoint, and the ids and advantages of its completions. */
  #gradientOrigin(): string[] {
    const { place, reference, settings } = this.#context;
    const hash = createHash("sha256");
    for (const { ids } of reference.rollouts) hash.update(`${ids.join(" ")}\n`);
    return [
      `step ${place.step}`,
      settings.train.normalisation,
      hash.update(reference.advantages.join(" ")).digest("hex"),
    ];
  }

  async #adamwGradient(
    written: (write: (name: string, into: Tensor) => Promise<void>) => RawDirection,
  ): Promise<DirectionSource> {
    const { place, settings, isRehearsal, say } = this.#context;
    const saved = isRehearsal ? null : await openMoments(place.state, place.step);
    if (saved !== null) this.#closeLater(saved);
    const before = saved && { ...saved, updates: place.step * settings.train.updatesPerBatch - saved.skipped };
    const remark =
      before === null ? `without saved moments of step ${place.step}` : `with the moments of step ${place.step}`;
    if (before === null && !isRehearsal) say(withoutMoments(place.step, settings.train.method));
    const write = async (name: string, into: Tensor): Promise<void> => {
      const { arena, norm } = await this.#gradientOfJ();
      into.write(await adamwDirection(name, await arena.gradient(name).read(), norm, settings.train, before));
    };
    const { beta1, beta2, epsilon, maxGradientNorm } = settings.train;
    const origin = [...this.#gradientOrigin(), remark, [beta1, beta2, epsilon, maxGradientNorm].join(" ")];
    return { raw: written(write), origin, remark };
  }

  async #component(
    written: (write: (name: string, into: Tensor) => Promise<void>) => RawDirection,
    component: number,
  ): Promise<DirectionSource> {
    const { place, names, signal, isRehearsal } = this.#context;
    if (isRehearsal) return { raw: written(async () => {}), origin: [] };
    const folders = place.trajectory.map((step) => place.folderOf(step));
    this.#checkpoints ??= (async () => {
      const opened: Checkpoint[] = [];
      for (const folder of folders) opened.push(this.#closeLater(await openCheckpoint(folder)));
      return opened;
    })();
    const checkpoints = await this.#checkpoints;
    const found = await principalComponents(checkpoints, names, signal);
    const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;
    return {
      raw: written(async (name, into) =>
        into.write(await componentTensor(checkpoints, found, component - 1, name, into.size)),
      ),
      origin: folders.flatMap(weightSums),
      remark: `${percent(found.shares[component - 1])} of the variance of ${checkpoints.length} checkpoints`,
    };
  }
}

export function copyTensor(from: Tensor, into: Tensor): void {
  perturbIntoSlot(
    from,
    { rows: into, panels: null },
    { deltaKey: [0, 0], etaKey: [0, 0], nameWords: [0, 0], a: 0, b: 0 },
  );
}

/** u·vᵀ for a matrix; standard normals for tensors of other ranks. */
function writeRankOne(name: string, into: Tensor, key: WordPair): void {
  const [rows, columns] = into.shape;
  if (into.shape.length !== 2) {
    writeNormals(into, key, wordsOf(name));
    return;
  }
  scope(() => {
    const [u, v] = [rows, columns].map((length) => empty(into.backend, [length, 1], into.dtype, "direction"));
    writeNormals(u, key, wordsOf(`${name}|out`));
    writeNormals(v, key, wordsOf(`${name}|in`));
    copyTensor(linear(u, v, null, null), into);
  });
}

/** SHA-256 of a model folder's weight files. */
function weightSums(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".safetensors"))
    .sort()
    .map((name) => sha256File(join(folder, name)));
}

/** Why the direction adamw-gradient begins at moments of 0, and what it then is. */
export function withoutMoments(step: number, method: string): string {
  const why =
    method === "evolve"
      ? "evolution strategies (train.method) train without gradients, and no optimiser state has moments of them"
      : "the run has no optimiser state of this step";
  return (
    `Direction adamw-gradient at step ${step}: ${why}, so AdamW's moments begin at 0. The direction is that of a first step, close to the sign ` +
    "of the gradient."
  );
}

// Measures which tile of a matrix product is fastest on this machine, once per adapter and driver, and stores the
// answer.
//
// All tiles sum in one order (tiles.ts), so the choice changes no bit of any result. A choice that is lost, damaged or
// measured on a busy machine costs only time. So nothing here fails a run: if the file cannot be read, tiles are
// measured again; if it cannot be written, the run continues without it.
//
// A tile replaces the adapter's rule only if it is clearly faster, because measured times vary from day to day and a
// rule does not.
import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import type { Backend } from "../../backends/backend.ts";
import { asSentence } from "../../backends/webgpu/failures.ts";
import { sayOnce } from "../../backends/webgpu/say-once.ts";
import { asError } from "../../host/errors.ts";
import { readJson, writeAtomic } from "../../host/files.ts";
import { cacheFolder, cachePaths } from "../../host/host-cache.ts";
import { scopeAsync } from "../../scope.ts";
import { empty, type Tensor } from "../../tensor.ts";
import { multiplyForward, multiplyInput, multiplyWeight, panelShape } from "./matmul.ts";
import {
  chooseTile,
  type Product,
  preferredTiles,
  preferTiles,
  rowClasses,
  shapeClass,
  type TileChoice,
  type TileForm,
  tileNames,
} from "./tiles.ts";

/**
 * Inputs and outputs of the measured layer: sums are long enough, and the weight is too large for the caches near a
 * core.
 */
const [inputs, outputs] = [512, 1024];
/** The row count that stands for the largest class. */
const manyRows = 64;
/** A tile must need at most this share of the time of the adapter's rule. */
const clearlyFaster = 0.9;
/** One measurement takes at least this long; the best of several measurements is used. */
const measurementMs = 2;
const measurements = 3;

/** A choice in a file: that of the tuner, and in a run's provenance. */
export const tileChoiceSchema = z.record(
  z.string(),
  z.object({ tile: z.enum(tileNames), constants: z.record(z.string(), z.number().int().positive()) }),
);
const choiceFileSchema = z.object({ schemaVersion: z.literal(1), adapter: z.string(), tiles: tileChoiceSchema });

interface ShapeCase {
  readonly product: Product;
  readonly rows: number;
  readonly candidates: readonly TileForm[];
}

/**
 * The tiles to try. Tiles that were never fast on an adapter of this style are left out, since compiling one takes a
 * while.
 */
function casesOf(style: Backend["style"]): readonly ShapeCase[] {
  const thin = (LANES: number, ROWS: number): TileForm => ({ tile: "thin", constants: { LANES, ROWS } });
  const plain = (tile: "register" | "vector" | "quad" | "workgroup"): TileForm => ({ tile, constants: {} });
  const column = (ROWS: number): TileForm => ({ tile: "column", constants: { ROWS } });
  const broadcast = (ROWS: number): TileForm => ({ tile: "broadcast", constants: { ROWS } });
  const forms: Record<Backend["style"], readonly (readonly TileForm[])[]> = {
    plain: [[], [], [], [], []],
    lavapipe: [
      [column(1), thin(8, 1), broadcast(1)],
      [column(4), thin(8, 4), broadcast(1)],
      [column(8), broadcast(1), plain("vector")],
      [column(16), plain("vector")],
      [plain("vector"), broadcast(4)],
    ],
    swiftshader: [
      [thin(8, 1), plain("quad")],
      [plain("quad"), thin(8, 4)],
      [plain("quad")],
      [plain("quad")],
      [plain("quad")],
    ],
    gpu: [
      [thin(32, 1), thin(8, 1), plain("register")],
      [thin(32, 4), thin(8, 4), plain("register")],
      [plain("workgroup"), thin(32, 4), plain("register")],
      [plain("workgroup"), plain("register")],
      [plain("workgroup"), plain("register")],
    ],
  };
  return (["forward", "input", "weight"] as const).flatMap((product) =>
    rowClasses.flatMap((most, i) => {
      // For the weight's gradient the tile's rows are a layer's inputs, which are never few.
      if (product === "weight" && most !== Number.POSITIVE_INFINITY) return [];
      const candidates = forms[style][i];
      return candidates.length < 2 ? [] : [{ product, rows: Math.min(most, manyRows), candidates }];
    }),
  );
}

/**
 * Makes the backend use the fastest tiles: those of the cache's file for this adapter and driver; if there is no sound
 * file, they are measured. If the cache cannot be written, that is said once: they are measured again next time.
 * @returns the choice, empty if the adapter's rule is best for every class
 */
export async function tuneTiles(backend: Backend): Promise<TileChoice> {
  const name = fileOf(backend);
  for (const path of cachePaths(folderName, name)) {
    const kept = readChoice(path, backend);
    if (kept === null) continue;
    preferTiles(backend, kept);
    return kept;
  }
  const choice = await measureTiles(backend);
  preferTiles(backend, choice);
  try {
    writeAtomic(
      join(cacheFolder(folderName), name),
      `${JSON.stringify({ schemaVersion: 1, adapter: backend.description, tiles: choice }, null, 2)}\n`,
    );
  } catch (thrown) {
    sayOnce(
      `The fastest matrix kernels of ${backend.description} were measured, but cannot be noted in the cache, so each start measures ` +
        `them again (--tune off measures none): ${asSentence(asError(thrown).message)}`,
    );
  }
  return choice;
}

const folderName = "tiles";

/** The name of the file with the choice of this adapter and driver. */
function fileOf({ description, style }: Backend): string {
  return `${createHash("sha256").update(`${style} ${description}`).digest("hex").slice(0, 16)}.json`;
}

/**
 * The choice in a file; null if it is missing, damaged, for another adapter, or names a tile that this version does not
 * try.
 */
function readChoice(path: string, backend: Backend): TileChoice | null {
  try {
    const { adapter, tiles } = readJson(path, choiceFileSchema);
    const isKnown = ([key, form]: [string, TileForm]): boolean =>
      casesOf(backend.style).some(
        ({ product, rows, candidates }) =>
          shapeClass(product, "f32", rows) === key && candidates.some((candidate) => isSame(candidate, form)),
      );
    return adapter === backend.description && Object.entries(tiles).every(isKnown) ? tiles : null;
  } catch {
    return null;
  }
}

function isSame(a: TileForm, b: TileForm): boolean {
  const entries = Object.entries(a.constants);
  return (
    a.tile === b.tile &&
    entries.length === Object.keys(b.constants).length &&
    entries.every(([name, value]) => b.constants[name] === value)
  );
}

/** Times every candidate of every shape class. Restores the backend's previous choice. */
export async function measureTiles(backend: Backend): Promise<TileChoice> {
  const before = preferredTiles(backend);
  const choice: Record<string, TileForm> = {};
  try {
    for (const { product, rows, candidates } of casesOf(backend.style)) {
      preferTiles(backend, {});
      const own = chooseTile(backend, product, "f32", rows, true);
      const key = shapeClass(product, "f32", rows);
      const times = new Map<TileForm, number>();
      for (const form of candidates) {
        preferTiles(backend, { [key]: form });
        times.set(form, await timeOf(backend, product, rows));
      }
      const [fastest, time] = [...times].reduce((best, one) => (one[1] < best[1] ? one : best));
      const ownTime = [...times].find(([form]) => isSame(form, own))?.[1] ?? Number.POSITIVE_INFINITY;
      if (time < clearlyFaster * ownTime && !isSame(fastest, own)) choice[key] = fastest;
    }
  } finally {
    preferTiles(backend, before);
  }
  return choice;
}

/** Milliseconds of one product. */
async function timeOf(backend: Backend, product: Product, rows: number): Promise<number> {
  return scopeAsync(async () => {
    const work = workOf(backend, product, rows);
    const timed = async (count: number): Promise<number> => {
      const start = performance.now();
      for (let i = 0; i < count; i++) work();
      await backend.idle();
      return (performance.now() - start) / count;
    };
    await timed(1); // compiles
    const count = Math.max(1, Math.ceil(measurementMs / (await timed(1))));
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < measurements; i++) best = Math.min(best, await timed(count));
    return best;
  });
}

/**
 * The values of operands do not matter, but NaN and subnormal numbers are slow on some processors: all values are 1.
 */
function workOf(backend: Backend, product: Product, rows: number): () => void {
  const ones = (shape: readonly number[]): Tensor => {
    const tensor = empty(backend, shape);
    tensor.write(new Float32Array(tensor.size).fill(1));
    return tensor;
  };
  const of = (shape: readonly number[]) => ({ tensor: empty(backend, shape), add: false });
  switch (product) {
    case "forward": {
      const [x, panels, y] = [ones([rows, inputs]), ones(panelShape(outputs, inputs)), empty(backend, [rows, outputs])];
      return () => multiplyForward(x, panels, null, y);
    }
    case "input": {
      const [dy, weight, dx] = [ones([rows, outputs]), ones([outputs, inputs]), of([rows, inputs])];
      return () => multiplyInput(dy, weight, dx);
    }
    case "weight": {
      const [dy, x, dWeight] = [ones([rows, outputs]), ones([rows, inputs]), of([outputs, inputs])];
      return () => multiplyWeight(dy, x, dWeight);
    }
    default:
      return product satisfies never;
  }
}

// The source of Alphabet-sort's names: rows, each a list of full names, of which an episode uses the first few. A file
// of the user is read once and its order kept for every seed, as the original task does with its data set. The built-in
// generator needs no file and no network, and makes any number of rows.
import { FileError, SettingsError } from "../../engine/host/index.ts";
import type { Draws } from "./environment.ts";
import { labelledRandom } from "./python/random.ts";
import { type DataRow, nameOfType, readRows } from "./rows.ts";

export interface NameRows {
  /** The source of the rows, for messages: a file's path, or the generator. */
  readonly source: string;
  /** All rows in order; endless for a generator. Only a generator's rows depend on the seed. */
  rows(seed: number): Iterable<readonly string[]>;
  /** One row, drawn from the caller's random stream. */
  draw(random: Draws): readonly string[];
}

const list = (names: string): readonly string[] => names.split(" ");

/** The built-in names: ASCII, 2 to 7 letters, each a single token in the tiny model's tokenizer. */
export const firstNames = list(
  "Ada Alan Amir Anna Ben Bela Carl Cleo Dana Diego Elif Emma Erik Fay Finn Gita Hana Hugo Ines Ivan Jan Joan Kai Kofi " +
    "Lars Lena Lin Mary Mei Nils Nora Olga Omar Paul Priya Quin Raj Rosa Sam Sofia Tara Tomas Uma Vera Wei Xena Yuki Zoe",
);
export const lastNames = list(
  "Abbott Adler Bauer Bose Chen Cruz Dahl Diaz Eaton Euler Fuchs Ford Gauss Grant Haas Hopper Ibsen Ito Jones Kahn Kim " +
    "Klein Lee Lopez Mann Moore Nash Noether Okafor Ortiz Patel Pohl Quist Rao Reed Rossi Sato Silva Singh Turing Ueda " +
    "Vance Vogel Weber Wong Xu Young Zhao",
);

/**
 * Rows of `namesPerRow` names, first and last names drawn independently and uniformly (a row may repeat a name). The
 * rows of a seed come from the stream labelled `names|seed`, which is independent of the stream of the environment's
 * turns.
 */
export function generatedNames(
  namesPerRow = 12,
  first: readonly string[] = firstNames,
  last: readonly string[] = lastNames,
): NameRows {
  if (!Number.isSafeInteger(namesPerRow) || namesPerRow < 1)
    throw new SettingsError(`names per row: expected a whole number from 1 on, got ${namesPerRow}`);
  const draw = (random: Draws): string[] =>
    Array.from({ length: namesPerRow }, () => `${random.choice(first)} ${random.choice(last)}`);
  return {
    source: `the built-in generator of ${namesPerRow} names per row`,
    *rows(seed) {
      const random = labelledRandom(`names|${seed}`);
      while (true) yield draw(random);
    },
    draw,
  };
}

/** The given rows, in order. */
export function listedNames(rows: readonly (readonly string[])[], source: string): NameRows {
  return { source, rows: () => rows, draw: (random) => random.choice(rows) };
}

/**
 * Rows from a file (`readRows`). A row is a list of names, or an object whose `names` is a list of names.
 * @throws FileError when the file cannot be read, has another extension, has no rows, or has a row that is not a list
 *   of names
 */
export async function readNameRows(path: string): Promise<NameRows> {
  return nameRows(await readRows(path, { what: "names", columns: ["names"] }), path);
}

/** The given rows of a data set as rows of names. @throws FileError when one of them is not a list of names */
export function nameRows(rows: readonly DataRow[], source: string): NameRows {
  return listedNames(
    rows.map(({ where, value }) => namesOf(value, where)),
    source,
  );
}

function namesOf(row: unknown, where: string): readonly string[] {
  const names: unknown = typeof row === "object" && row !== null && "names" in row ? row.names : row;
  if (!Array.isArray(names))
    throw new FileError(`${where}: expected a list of names, or an object with "names", got ${nameOfType(row)}.`);
  return names.map((name: unknown, i) => {
    if (typeof name === "string") return name;
    throw new FileError(`${where}: expected strings, got ${nameOfType(name)} as name ${i + 1}.`);
  });
}

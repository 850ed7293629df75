// The settings of Alphabet-sort, and how they open the environment.
import { boolean, integer, number, text } from "../../engine/host/index.ts";
import { alphabetSort, alphabetSortDefaults } from "./alphabet-sort.ts";
import { openData } from "./data.ts";
import type { Environment, EnvironmentKind } from "./environment.ts";
import { generatedNames, nameRows } from "./names.ts";
import type { OpenContext } from "./open-context.ts";

const settings = {
  minTurns: integer({ default: 2, min: 1, max: 8, unit: "turns", meaning: "minimum turns per episode" }),
  maxTurns: integer({ default: 2, min: 1, max: 8, unit: "turns", meaning: "maximum turns per episode" }),
  minNamesPerTurn: integer({
    default: alphabetSortDefaults.minNamesPerTurn,
    min: 1,
    unit: "names",
    meaning: "minimum number of names that a turn adds",
  }),
  maxNamesPerTurn: integer({
    default: alphabetSortDefaults.maxNamesPerTurn,
    min: 1,
    unit: "names",
    meaning: "maximum number of names that a turn adds",
  }),
  similarityPower: number({
    default: alphabetSortDefaults.similarityPower,
    above: 0,
    meaning: "exponent of the similarity between an answer and the right answer",
  }),
  powerPerTurn: boolean({
    default: alphabetSortDefaults.powerPerTurn,
    meaning: "raise each turn's similarity to the power, then average; otherwise average first",
  }),
  names: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning:
      "rows of names: a .json, .jsonl or .parquet file, or a data set of the hub such as kalomaze/alphabetic-arxiv-authors-it1; empty for the built-in generator",
  }),
  namesSha256: text({
    default: "",
    changes: "free",
    isRecorded: true,
    meaning: "SHA-256 of the file of names; a file with a different one is refused; empty accepts any file",
  }),
  namesPerRow: integer({ default: 12, min: 1, unit: "names", meaning: "names per row of the built-in generator" }),
} as const;

/** Settings that were called `environment.KEY` in earlier versions. */
export const formerAlphabetSortKeys = Object.keys(settings).filter((key) => key !== "namesSha256");

export const alphabetSortKind = {
  name: "alphabet-sort",
  description:
    "Alphabet-sort: the model sorts a few names by first or last name, inside tags; each later turn adds names, and all of them are sorted again with the new ones marked. Reward, from 0 to 1: how similar the lists are to the correct ones.",
  settings,
  check: ({ minTurns, maxTurns, minNamesPerTurn, maxNamesPerTurn }) => [
    ...(minTurns > maxTurns ? [`minTurns: ${minTurns} is above maxTurns, ${maxTurns}`] : []),
    ...(minNamesPerTurn > maxNamesPerTurn
      ? [`minNamesPerTurn: ${minNamesPerTurn} is above maxNamesPerTurn, ${maxNamesPerTurn}`]
      : []),
  ],
  async open({ names, namesSha256, namesPerRow, ...options }, context: OpenContext): Promise<Environment> {
    if (names === "") return alphabetSort(generatedNames(namesPerRow), options);
    const { rows, source, file } = await openData(
      {
        ...{ setting: "names", data: names, sha256: namesSha256, what: "names", columns: ["names"] },
        ...{ config: "default", split: "train" },
      },
      context,
    );
    return { ...alphabetSort(nameRows(rows, source), options), files: [file] };
  },
} satisfies EnvironmentKind<typeof settings>;

// Alphabet-sort, as the `alphabet-sort` environment of the verifiers library defines it: the model sorts a list of
// names. In later turns the list grows, and the model sorts it again and marks the new names. The reward is the
// similarity to the right list, so a nearly right answer earns partial credit, which makes the reward landscape less
// flat.
//
// An episode list is named by a seed of Python's random generator. So the order of the random draws below is part of
// the definition, including draws whose outcome is not used.
import { SettingsError } from "../../engine/host/index.ts";
import type { ChatMessage, Draws, Reward, WorkedEnvironment, WorkedEpisode, WorkedTurn } from "./environment.ts";
import type { NameRows } from "./names.ts";
import { ratio } from "./python/difflib.ts";
import { PythonRandom } from "./python/random.ts";
import { compareCodePoints, isUpper, lower, strip } from "./python/text.ts";

export interface AlphabetSortOptions {
  minTurns: number;
  maxTurns: number;
  minNamesPerTurn: number;
  maxNamesPerTurn: number;
  /** Exponent of the similarity: at 4, an answer with similarity 0.9 earns 0.66. */
  similarityPower: number;
  /** True: each turn's similarity is raised to the power, then averaged. False: the average is raised to the power. */
  powerPerTurn: boolean;
}

/** The original's defaults. The study sets both numbers of turns to 2. */
export const alphabetSortDefaults: Readonly<AlphabetSortOptions> = {
  minTurns: 1,
  maxTurns: 3,
  minNamesPerTurn: 1,
  maxNamesPerTurn: 5,
  similarityPower: 4,
  powerPerTurn: true,
};

/** The seed of the original's training episodes. */
export const alphabetSortSeed = 1337420;

export interface AlphabetSortEpisode extends WorkedEpisode {
  readonly turns: number;
  readonly sortByFirst: boolean;
  /** The user messages after the first. */
  readonly followUps: readonly string[];
  /** The right lines of each turn. */
  readonly groundTruths: readonly (readonly string[])[];
  nextUserTurn(messages: readonly ChatMessage[]): string | null;
  score(completions: readonly string[]): AlphabetSortReward;
}

export interface AlphabetSortReward extends Reward {
  readonly parts: { readonly turnScores: readonly number[]; readonly formatFailed: readonly boolean[] };
}

export interface AlphabetSort extends WorkedEnvironment {
  readonly options: Readonly<AlphabetSortOptions>;
  episodes(seed: number): Iterable<AlphabetSortEpisode>;
  draw(random: Draws, index: number): AlphabetSortEpisode;
}

// Maximum number of consecutive rows that are skipped. Without this limit, an endless generator of rows that are too
// short would never return.
const MOST_SKIPPED = 10_000;

/**
 * The environment over rows of names. `episodes(seed)` uses the rows in order and skips rows with too few names; `draw`
 * uses a random row.
 * @throws SettingsError when options contradict each other, or (while episodes are made) no row is long enough
 */
export function alphabetSort(names: NameRows, options: Partial<AlphabetSortOptions> = {}): AlphabetSort {
  const chosen = { ...alphabetSortDefaults, ...options };
  expectRange("minTurns", chosen.minTurns, "maxTurns", chosen.maxTurns);
  expectRange("minNamesPerTurn", chosen.minNamesPerTurn, "maxNamesPerTurn", chosen.maxNamesPerTurn);
  const refuse = (): never => {
    throw new SettingsError(
      `alphabet-sort: expected rows of up to ${chosen.maxTurns * chosen.maxNamesPerTurn} different names ` +
        `(maxTurns · maxNamesPerTurn), got ${MOST_SKIPPED} rows one after the other that were too short for their episode, ` +
        `from ${names.source}. Give longer rows, or lower maxTurns or maxNamesPerTurn.`,
    );
  };
  return {
    name: "alphabet-sort",
    source: names.source,
    options: chosen,
    *episodes(seed) {
      const random = new PythonRandom(seed);
      let index = 0;
      let skipped = 0;
      for (const row of names.rows(seed)) {
        const episode = makeEpisode(row, random, chosen, index);
        if (episode === null) {
          if (++skipped === MOST_SKIPPED) refuse();
          continue;
        }
        skipped = 0;
        index++;
        yield episode;
      }
    },
    draw(random, index) {
      for (let attempt = 0; attempt < MOST_SKIPPED; attempt++) {
        const episode = makeEpisode(names.draw(random), random, chosen, index);
        if (episode !== null) return episode;
      }
      return refuse();
    },
  };
}

function expectRange(minimumName: string, minimum: number, maximumName: string, maximum: number): void {
  if (!Number.isSafeInteger(minimum) || !Number.isSafeInteger(maximum) || minimum < 1 || minimum > maximum)
    throw new SettingsError(
      `alphabet-sort: expected whole numbers 1 ≤ ${minimumName} ≤ ${maximumName}, got ${minimum} and ${maximum}.`,
    );
}

/** One episode from one row, or null when the row is too short. The draws made until then stay consumed. */
function makeEpisode(
  row: readonly string[],
  random: Draws,
  options: AlphabetSortOptions,
  index: number,
): AlphabetSortEpisode | null {
  const names = [...new Set(row.map((name) => name.replaceAll(" ", "")))];
  const turns = random.randint(options.minTurns, options.maxTurns);
  const counts = Array.from({ length: turns }, () => random.randint(options.minNamesPerTurn, options.maxNamesPerTurn));
  const ends = counts.map((_, turn) => counts.slice(0, turn + 1).reduce((sum, count) => sum + count, 0));
  if (names.length < ends[turns - 1]) return null;

  const sortByFirst = random.choice([true, false]);
  const groundTruths = ends.map((end, turn) => {
    const isNew = new Set(turn === 0 ? [] : names.slice(end - counts[turn], end));
    return sortNames(names.slice(0, end), sortByFirst).map((name) => (isNew.has(name) ? `${name}${NEW_MARK}` : name));
  });
  const userTurns = counts.map((count, turn) => {
    const shown = names.slice(ends[turn] - count, ends[turn]);
    random.shuffle(shown);
    // Both draws are made for every turn after the first, although from the third turn on no template is shown.
    const templateCount = random.randint(options.minNamesPerTurn, turn === 0 ? options.maxNamesPerTurn : ends[turn]);
    const threshold = turn === 0 ? templateCount : random.randint(0, templateCount - 1);
    return userTurn(turn, shown, sortByFirst, templateLines(templateCount, threshold));
  });
  const [prompt, ...followUps] = userTurns;
  return {
    index,
    prompt,
    turns,
    followUps,
    groundTruths,
    sortByFirst,
    isBounded: true,
    nextUserTurn: (messages: readonly ChatMessage[]) =>
      followUps[messages.filter(({ role }) => role === "assistant").length - 1] ?? null,
    score: (completions) => score(completions, groundTruths, options),
    get workedTurns(): WorkedTurn[] {
      return userTurns.map((user, turn) => {
        const bare = groundTruths[turn].join("\n");
        return { user, bare, formatted: `<${tagOf(turn)}>\n${bare}\n</${tagOf(turn)}>` };
      });
    },
  };
}

const NEW_MARK = " // new name!";

const tagOf = (turn: number) => (turn === 0 ? "alphabetical_sorted" : "combined_alphabetical_sorted");

/**
 * The lines of the example in a prompt. Its length and marks are random, so that they reveal nothing about the answer.
 */
function templateLines(count: number, threshold: number): string[] {
  return Array.from({ length: count }, (_, i) => `Name${i + 1}${i + 1 > threshold ? NEW_MARK : ""}`);
}

function userTurn(turn: number, names: readonly string[], sortByFirst: boolean, template: readonly string[]): string {
  const key = sortByFirst ? "FIRST" : "LAST";
  const format = `Use exactly this format:\n<${tagOf(turn)}>\n${template.join("\n")}\n</${tagOf(turn)}>`;
  if (turn === 0) return `Sort these names in alphabetical order by ${key} name: ${names.join(", ")}\n\n${format}`;
  const request =
    `Now sort ALL of these names alphabetically by ${key} name: ${names.join(", ")}\n\n` +
    "These are in addition to the prior list. " +
    `Mark any NEW names (that weren't in the prior list) with \`${strip(NEW_MARK)}\` at the end.`;
  return turn === 1 ? `${request}\n\n${format}` : `${request} Follow the same format as before.`;
}

/** Sorted by first name only or last name only, by code point; equal keys keep their order. */
function sortNames(names: readonly string[], byFirst: boolean): string[] {
  return names
    .map((name) => ({ name, key: splitName(name)[byFirst ? 0 : 1] }))
    .sort((a, b) => compareCodePoints(a.key, b.key))
    .map(({ name }) => name);
}

/** "AdaLovelace" → ["Ada", "Lovelace"]: the last name starts at the first upper-case letter after the first letter. */
function splitName(name: string): [first: string, last: string] {
  const characters = [...name];
  const split = characters.findIndex((character, i) => i > 0 && isUpper(character));
  return split < 0 ? [name, ""] : [characters.slice(0, split).join(""), characters.slice(split).join("")];
}

/** Reward of a conversation: the mean over the episode's turns; a turn without an answer counts as 0. */
function score(
  completions: readonly string[],
  groundTruths: readonly (readonly string[])[],
  options: AlphabetSortOptions,
): AlphabetSortReward {
  const turns = groundTruths.map((truth, turn) => scoreTurn(completions[turn] ?? "", turn, truth, options));
  const mean = turns.reduce((sum, { score }) => sum + score, 0) / turns.length;
  return {
    reward: options.powerPerTurn ? mean : mean ** options.similarityPower,
    parts: { turnScores: turns.map(({ score }) => score), formatFailed: turns.map(({ failed }) => failed) },
  };
}

/**
 * Score of one answer, whose lines are between the turn's tags. Several tag pairs count as attempts, and the last one
 * is scored; if an attempt is not better than the one before it, the turn scores 0. `failed`: no tag pair holds a line.
 */
function scoreTurn(
  answer: string,
  turn: number,
  truth: readonly string[],
  options: AlphabetSortOptions,
): { score: number; failed: boolean } {
  const tag = tagOf(turn);
  const attempts = [...answer.matchAll(new RegExp(`<${tag}>(.*?)</${tag}>`, "gs"))].map(([, content]) =>
    content.split("\n").map(strip).filter(Boolean),
  );
  const scores = attempts.map((lines) => {
    if (lines.length === 0) return 0;
    if (isSame(lines, truth)) return 1;
    const similarity = ratio(comparable(lines), comparable(truth));
    return options.powerPerTurn ? similarity ** options.similarityPower : similarity;
  });
  const improves = scores.every((score, i) => i === 0 || score > scores[i - 1]);
  return {
    score: improves ? (scores.at(-1) ?? 0) : 0,
    failed: attempts.every((lines) => lines.length === 0),
  };
}

/** Equal lines have a ratio of 1, to any power. They are common in training, and the ratio takes most of the scorer's time. */
const isSame = (lines: readonly string[], truth: readonly string[]) =>
  lines.length === truth.length && lines.every((line, i) => line === truth[i]);

const comparable = (lines: readonly string[]) => lines.map((line) => lower(strip(line))).join("\n");

// The data of the report's script: the measured numbers in columns, and every drawing that the page can show. They are
// compressed, since sixteen maps of 441 cells would otherwise take several megabytes. Measured numbers have nine digits,
// which is far beyond their error; all of a double's digits would be a fifth of the page (points.csv has them).
import { deflateRawSync } from "node:zlib";
import { compareConversations } from "../../first-difference.ts";
import { checkpointPoint, distinct, gridValues, hasObjective, inOrder, type LandscapeMap } from "../figure-data.ts";

export interface PageMap {
  step: number;
  slice: number;
  /** Points per side. */
  n: number;
  /** Index of the checkpoint among the points, or −1. */
  origin: number;
  hasObjective: boolean;
  /** Columns, one entry per point, in the order given. */
  points: {
    i: number[];
    j: number[];
    alpha: number[];
    beta: number[];
    reward: number[];
    /** Half the width of the reward's 95% interval over prompts. */
    rewardReach: (number | null)[];
    klToken: number[];
    objective: (number | null)[];
  };
}

export interface PageData {
  steps: number[];
  slices: number[];
  maps: PageMap[];
  /** SVG per map, by the part of the page and, for the map itself, quantity and colours: "map reward shared". */
  figures: Record<string, string>[];
}

/** A conversation of a cell, its texts as indices. */
export interface PageConversation {
  reward: number;
  messages: [role: string, text: number][];
  /** The first difference: message, start, end, end in the checkpoint's text, tokens before it. Null: the same. */
  differs: [message: number, start: number, end: number, endAtCheckpoint: number, before: number] | null;
}

/** The conversations of one map: each text once, and for every cell "i,j" its conversations. */
export interface PageConversations {
  unit: "tokens" | "words";
  texts: string[];
  cells: Record<string, PageConversation[]>;
}

export function pageData(maps: readonly LandscapeMap[], figures: PageData["figures"]): PageData {
  const ordered = inOrder(maps);
  return {
    steps: distinct(ordered.map((map) => map.step)),
    slices: distinct(ordered.map((map) => map.slice)),
    maps: ordered.map(pageMap),
    figures,
  };
}

function pageMap(map: LandscapeMap): PageMap {
  gridValues(map, "reward"); // refuses points off the grid
  const { step, slice, n, points } = map;
  const origin = checkpointPoint(map);
  return {
    step,
    slice,
    n,
    origin: origin === undefined ? -1 : points.indexOf(origin),
    hasObjective: hasObjective(map),
    points: {
      i: points.map((point) => point.i),
      j: points.map((point) => point.j),
      alpha: points.map((point) => point.alpha),
      beta: points.map((point) => point.beta),
      reward: points.map((point) => nineDigits(point.reward)),
      rewardReach: points.map(({ rewardReach = null }) => rewardReach && nineDigits(rewardReach)),
      klToken: points.map((point) => nineDigits(point.klToken)),
      objective: points.map(({ objective }) => objective && nineDigits(objective)),
    },
  };
}

function nineDigits(value: number): number {
  return Number(value.toPrecision(9));
}

/**
 * @param prompts  conversations of the first prompts only
 * @param stride  only cells whose distance from the middle is a multiple of it on both axes
 * @returns null for a map without conversations
 */
export function pageConversations(
  map: LandscapeMap,
  prompts = Number.POSITIVE_INFINITY,
  stride = 1,
): PageConversations | null {
  if (map.conversations === undefined || map.conversations.length === 0 || prompts === 0) return null;
  const indexOf = new Map<string, number>();
  const index = (text: string) => {
    const known = indexOf.get(text) ?? indexOf.size;
    indexOf.set(text, known);
    return known;
  };
  const middle = (map.n - 1) / 2;
  const home = map.conversations.find(({ i, j }) => i === middle && j === middle)?.conversations ?? [];
  const cells: PageConversations["cells"] = {};
  const isOn = (k: number) => Math.floor(Math.abs(k - middle)) % stride === 0;
  for (const { i, j, conversations } of map.conversations.filter((cell) => isOn(cell.i) && isOn(cell.j)))
    cells[`${i},${j}`] = conversations.slice(0, prompts).map((said, prompt) => {
      const compared = prompt < home.length ? compareConversations(said, home[prompt]) : null;
      const { message, start, end, endAtCheckpoint } = compared?.difference ?? {
        message: -1,
        start: 0,
        end: 0,
        endAtCheckpoint: 0,
      };
      return {
        reward: said.reward,
        messages: said.messages.map(({ role, content }): [string, number] => [role, index(content)]),
        differs:
          compared === null || message < 0 ? null : [message, start, end, endAtCheckpoint, compared.common.tokens],
      };
    });
  const all = map.conversations.flatMap(({ conversations }) => conversations);
  const unit = all.every(({ tokenLengths }) => tokenLengths !== undefined) ? "tokens" : "words";
  return { unit, texts: [...indexOf.keys()], cells };
}

/** JSON, compressed without a header (RFC 1951), as base64: what `unpack` of the script reads. */
export function packed(value: unknown): string {
  return deflateRawSync(JSON.stringify(value), { level: 9 }).toString("base64");
}

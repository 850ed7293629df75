// What the report carries for its script: the measured numbers exactly as given, in columns, and what is drawn on them
// (colours, ticks, isolines) worked out here, so that the script in the page computes nothing of its own.
import { scaleLinear, scaleSqrt } from "d3-scale";
import { trueMinus } from "../axes.ts";
import { type ColourScale, DIVERGING, SEQUENTIAL } from "../colour.ts";
import {
  distinct,
  extentOf,
  gridValues,
  hasObjective,
  inOrder,
  type LandscapeMap,
  originOf,
  QUANTITIES,
  type Quantity,
  ringOf,
} from "../figure-data.ts";
import { colourScaleOf, drawnIsolines, isolineLevels } from "../heatmap.ts";
import { rootTicks } from "../reward-kl.ts";
import { pathData } from "../svg.ts";

export interface PageTick {
  value: number;
  text: string;
}

export interface PageScale {
  domain: readonly [number, number];
  ticks: PageTick[];
}

/** One isoline, drawn in a square of the page's `side`. */
export interface PageIsoline {
  d: string;
  isBelowZero: boolean;
  text: string;
  x: number;
  y: number;
  angle: number;
}

export interface PageMap {
  step: number;
  slice: number;
  n: number;
  radius: number;
  mark: string | null;
  /** Index of the checkpoint among the points, or −1. */
  origin: number;
  hasObjective: boolean;
  /** Columns, one entry a point, in the order given. */
  points: {
    i: number[];
    j: number[];
    alpha: number[];
    beta: number[];
    ring: number[];
    reward: number[];
    rewardError: (number | null)[];
    klToken: number[];
    klTokenError: (number | null)[];
    objective: (number | null)[];
  };
  /** Each quantity's own colour scale. */
  scales: Record<Quantity, PageScale>;
  isolines: Record<"kl" | "objective", PageIsoline[]>;
}

export interface PageData {
  steps: number[];
  slices: number[];
  /** Side of a map, the unit of its isolines. */
  side: number;
  maps: PageMap[];
  colours: Record<Quantity, readonly string[]>;
  /** Colour scales over all maps. */
  scales: Record<Quantity, PageScale>;
  /** Axes of reward against KL, over all maps; KL is drawn by its square root. */
  axes: { reward: PageScale; kl: PageScale };
}

/** What was said in one map: texts once each, and for every cell "i,j" its conversations by index of the text. */
export interface PageConversations {
  texts: string[];
  cells: Record<string, { reward: number; messages: [role: string, text: number][] }[]>;
}

const MAP_SIDE = 400;
/** Size of isoline numbers, in the same unit. */
const MAP_LABEL = 12;

export function pageData(maps: readonly LandscapeMap[]): PageData {
  const ordered = inOrder(maps);
  const levels = { kl: isolineLevels(ordered, "kl"), objective: isolineLevels(ordered, "objective") };
  const points = ordered.flatMap((map) => map.points);
  const rewards = extentOf(points.map((point) => point.reward)) ?? [0, 1];
  const furthest = extentOf(points.map((point) => point.klToken))?.[1] || 1;
  const reward = scaleLinear(rewards, [0, 1]).nice(5);
  const kl = scaleSqrt([0, furthest], [0, 1]);
  return {
    steps: distinct(ordered.map((map) => map.step)),
    slices: distinct(ordered.map((map) => map.slice)),
    side: MAP_SIDE,
    maps: ordered.map((map) => pageMap(map, levels)),
    colours: { reward: SEQUENTIAL, kl: SEQUENTIAL, objective: DIVERGING },
    scales: scalesOf(ordered),
    axes: {
      reward: { domain: pair(reward.domain()), ticks: written(reward.ticks(5), reward.tickFormat(5)) },
      kl: { domain: [0, furthest], ticks: written(rootTicks(kl, 6), String) },
    },
  };
}

const pair = ([low, high]: number[]): [number, number] => [low, high];
const written = (ticks: readonly number[], format: (value: number) => string): PageTick[] =>
  ticks.map((value) => ({ value, text: trueMinus(format)(value) }));

function scalesOf(maps: readonly LandscapeMap[]): Record<Quantity, PageScale> {
  const [reward, kl, objective] = QUANTITIES.map((quantity) => ticked(colourScaleOf(maps, quantity)));
  return { reward, kl, objective };
}

function ticked({ domain }: ColourScale): PageScale {
  const scale = scaleLinear(domain, [0, 1]);
  return { domain, ticks: written(scale.ticks(5), scale.tickFormat(5)) };
}

function pageMap(map: LandscapeMap, levels: Record<"kl" | "objective", readonly number[]>): PageMap {
  gridValues(map, "reward"); // refuses points off the grid before anything is drawn from them
  const { step, slice, n, radius, mark = null, points } = map;
  const origin = originOf(map);
  const isolinesOf = (quantity: "kl" | "objective") => {
    const frame = { left: 0, top: 0, width: MAP_SIDE, height: MAP_SIDE };
    return drawnIsolines(map, quantity, levels[quantity], frame, MAP_LABEL).map(({ level, lines, label }) => ({
      d: lines.map(pathData).join(""),
      isBelowZero: level < 0,
      text: label.text,
      x: Math.round(label.x),
      y: Math.round(label.y),
      angle: Math.round(label.angle),
    }));
  };
  return {
    step,
    slice,
    n,
    radius,
    mark,
    origin: origin === undefined ? -1 : points.indexOf(origin),
    hasObjective: hasObjective(map),
    points: {
      i: points.map((point) => point.i),
      j: points.map((point) => point.j),
      alpha: points.map((point) => point.alpha),
      beta: points.map((point) => point.beta),
      ring: points.map((point) => Math.round(ringOf(map, point) * 1000) / 1000),
      reward: points.map((point) => point.reward),
      rewardError: points.map((point) => point.rewardError ?? null),
      klToken: points.map((point) => point.klToken),
      klTokenError: points.map((point) => point.klTokenError ?? null),
      objective: points.map((point) => point.objective),
    },
    scales: scalesOf([map]),
    isolines: { kl: isolinesOf("kl"), objective: isolinesOf("objective") },
  };
}

/** null for a map without conversations. */
export function pageConversations(map: LandscapeMap): PageConversations | null {
  if (map.conversations === undefined || map.conversations.length === 0) return null;
  const indexOf = new Map<string, number>();
  const index = (text: string) => {
    const known = indexOf.get(text) ?? indexOf.size;
    indexOf.set(text, known);
    return known;
  };
  const cells: PageConversations["cells"] = {};
  for (const { i, j, conversations } of map.conversations)
    cells[`${i},${j}`] = conversations.map(({ reward, messages }) => ({
      reward,
      messages: messages.map(({ role, content }): [string, number] => [role, index(content)]),
    }));
  return { texts: [...indexOf.keys()], cells };
}

// The data of the report's script: the measured numbers exactly as given, in columns. The drawings are in the page as
// figures, so the script computes only differences to the checkpoint.
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
}

/** The conversations of one map: each text once, and for every cell "i,j" its conversations as indices of texts. */
export interface PageConversations {
  texts: string[];
  cells: Record<string, { reward: number; messages: [role: string, text: number][] }[]>;
}

export function pageData(maps: readonly LandscapeMap[]): PageData {
  const ordered = inOrder(maps);
  return {
    steps: distinct(ordered.map((map) => map.step)),
    slices: distinct(ordered.map((map) => map.slice)),
    maps: ordered.map(pageMap),
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
      reward: points.map((point) => point.reward),
      rewardReach: points.map((point) => point.rewardReach ?? null),
      klToken: points.map((point) => point.klToken),
      objective: points.map((point) => point.objective),
    },
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

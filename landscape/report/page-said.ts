// The part of the report that shows where the sentence breaks: the conversations of the chosen cell beside the
// checkpoint's, and where on the map and after how many tokens conversations first differ.
import type { LandscapeMap } from "./figures/figure-data.ts";
import { packed, pageConversations } from "./figures/page/page-data.ts";
import { binsOf } from "./figures/page/small-map.ts";
import type { Markup } from "./figures/svg.ts";
import { commonStarts } from "./first-difference.ts";
import { html } from "./html.ts";
import type { MapFigures } from "./page-figures.ts";

/** The packed conversations of each map, and what was left out for the page's size. */
export interface PackedConversations {
  /** null for a map without any. */
  readonly blocks: readonly (string | null)[];
  /** What the page has, if it is not all: "1 of 3 prompts, at every second cell". */
  readonly part: string | null;
  readonly hasAny: boolean;
  /** Most conversations that a cell has. */
  readonly kept: number;
}

/** Cells whose distance from the checkpoint is a multiple of this many grid steps on both axes. */
const STRIDES = [
  [1, ""],
  [2, ", at every second cell of a row and a column"],
  [4, ", at every fourth cell of a row and a column"],
] as const;

/** As many conversations as fit into `room` bytes: fewer prompts first, then fewer cells. */
export function packConversations(maps: readonly LandscapeMap[], room: number): PackedConversations {
  const kept = Math.max(
    0,
    ...maps.flatMap((map) => map.conversations?.map(({ conversations }) => conversations.length) ?? []),
  );
  const hasAny = kept > 0;
  const fewer = Array.from({ length: kept }, (_, k) => ({ prompts: kept - k, stride: 1, where: "" }));
  const sparser = STRIDES.slice(1).map(([stride, where]) => ({ prompts: 1, stride, where }));
  for (const { prompts, stride, where } of hasAny ? [...fewer, ...sparser] : []) {
    const blocks = maps.map((map) => {
      const said = pageConversations(map, prompts, stride);
      return said === null ? null : packed(said);
    });
    if (blocks.reduce((sum, block) => sum + (block?.length ?? 0), 0) > room) continue;
    const isAll = prompts === kept && stride === 1;
    return { blocks, hasAny, kept, part: isAll ? null : `${prompts} of ${kept} prompts${where}` };
  }
  return { blocks: maps.map(() => null), hasAny, kept, part: hasAny ? `0 of ${kept} prompts` : null };
}

export function whereItBreaks(
  maps: readonly LandscapeMap[],
  shown: number,
  first: MapFigures,
  { part, hasAny, kept }: PackedConversations,
): Markup {
  const drawing = (svg: string | undefined): Markup | null =>
    svg === undefined ? null : html`<figure>${{ markup: svg }}</figure>`;
  const left =
    part === null
      ? null
      : html`<p class="caption">To keep this page small, it has the conversations of ${part}. All are in rollouts.jsonl.gz of the run folder.</p>`;
  const canCompare = maps.some((map) => commonStarts(map) !== null);
  return html`<section aria-labelledby="said">
<h2 id="said">Where the sentence breaks</h2>
<p class="caption">Checkpoint and cell answer with the same sampling noise, so they say the same until the perturbation changes a token.${
    hasAny
      ? html` Compared here are only conversations that were kept: at each cell those of the first ${kept === 1 ? "prompt" : `${kept} prompts`}, one rollout each (landscape.conversations). The claim on first differences below counts all rollouts, where the run stored them.`
      : null
  }</p>
${
  canCompare
    ? html`<div class="breaks">
<div class="panel" data-panel="breaks">${drawing(first["breaks"])}</div>
<div class="panel narrow" data-panel="common">${drawing(first["common"])}</div>
</div>
${maps.map((map, k) => html`<p class="caption" data-of-map="${k}"${k === shown ? null : html` hidden`}>${startSentences(map)}</p>`)}`
    : html`<p class="empty">${hasAny ? "The checkpoint’s own conversations are missing, so nothing can be compared." : "This run did not store conversations (landscape.conversations)."}</p>`
}
<h3 class="at-cell"${hasAny ? null : html` hidden`}>Conversations at <span id="said-where">this cell</span></h3>
<div id="conversations"${hasAny ? null : html` hidden`}><p class="empty">Conversations are shown only with JavaScript.</p></div>
${left}
</section>`;
}

function startSentences(map: LandscapeMap): string {
  const starts = commonStarts(map);
  if (starts === null) return "The conversations of this map cannot be compared.";
  const { same, total } = binsOf(starts);
  const median = [...starts.cells.flatMap((cell) => cell.starts)].map(({ tokens }) => tokens).sort((a, b) => a - b)[
    Math.floor(total / 2)
  ];
  const words = starts.unit === "words" ? " This run did not store where tokens end, so words are compared." : "";
  return (
    `${total} conversations that were kept at the cells around the checkpoint: half have at most ${median} ${starts.unit} in common with the ` +
    `checkpoint’s, ${((100 * same) / total).toFixed(0)}% are the same to the end.${words}`
  );
}

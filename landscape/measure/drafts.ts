// Drafts for a sweep. Neighbouring grid points sample with the same noise, so their answers to a prompt are mostly the
// same. A finished neighbour's answers are therefore proposed to a point's rollouts, which verify many tokens in one
// pass (model/drafts.ts). The checkpoint's own completions, which are the rollouts at the centre, serve in the same
// way, also in a sweep that was resumed and no longer has the answers of the points before.
//
// Drafts change no bit of a result, so any answers may be kept. As many are kept as memory allows, first those of
// points that are near most of the remaining points.
import { type Answers, proposal, type RolloutDraft, type SaidAnswers } from "../../rl/index.ts";
import type { GridCell } from "../grid.ts";
import type { RolloutKey } from "./under-way.ts";

/** Memory for answers on the host, bytes. */
export const mostDraftBytes = 256 * 2 ** 20;
/**
 * How many of the nearest finished points a rollout's drafts are chosen from. Where an answer departs from the nearest point's,
 * a further one has often said the same. With four points a 21 × 21 map of the tiny study needed a tenth more passes
 * (docs/performance.md).
 */
const nearestPoints = 128;
/** When memory ends, points stay that are among so many nearest ones of most remaining points: these give most drafts. */
const nearestKept = 4;

type Place = Pick<GridCell, "i" | "j">;

/** How far two points are from each other, in any unit that grows with the distance: drafts come from the nearest ones. */
export type PointDistance = (one: Place, other: Place) => number;
/** In squared grid steps. */
const gridDistance: PointDistance = (one, other) => (one.i - other.i) ** 2 + (one.j - other.j) ** 2;

const endOfAnswer = -1;

/** The answers of one grid point's rollouts, outside V8's heap. */
class PointAnswers implements Place {
  readonly i: number;
  readonly j: number;
  isFinished = false;
  #tokens = new Int32Array(1024);
  #length = 0;
  /** Where each rollout's tokens begin, plus 1, and end; 0 for a rollout without any. */
  #ranges = new Uint32Array(128);

  constructor({ i, j }: Place) {
    this.i = i;
    this.j = j;
  }

  get bytes(): number {
    return this.#tokens.byteLength + this.#ranges.byteLength;
  }

  set(index: number, answers: Answers): void {
    const start = this.#length;
    const needed = answers.reduce((sum, { length }) => sum + length + 1, start);
    if (needed > this.#tokens.length) {
      const tokens = new Int32Array(grown(this.#tokens.length, needed));
      tokens.set(this.#tokens);
      this.#tokens = tokens;
    }
    for (const answer of answers) {
      this.#tokens.set(answer, this.#length);
      this.#length += answer.length;
      this.#tokens[this.#length++] = endOfAnswer;
    }
    if (2 * index + 2 > this.#ranges.length) {
      const ranges = new Uint32Array(grown(this.#ranges.length, 2 * index + 2));
      ranges.set(this.#ranges);
      this.#ranges = ranges;
    }
    this.#ranges[2 * index] = start + 1;
    this.#ranges[2 * index + 1] = this.#length;
  }

  has(index: number): boolean {
    return 2 * index < this.#ranges.length && this.#ranges[2 * index] !== 0;
  }

  /** Parts of the memory here, no copies. */
  find(index: number): SaidAnswers | null {
    if (!this.has(index)) return null;
    const answers: Int32Array[] = [];
    const end = this.#ranges[2 * index + 1];
    for (let start = this.#ranges[2 * index] - 1; start < end; ) {
      const stop = this.#tokens.indexOf(endOfAnswer, start);
      answers.push(this.#tokens.subarray(start, stop));
      start = stop + 1;
    }
    return answers;
  }
}

const grown = (length: number, needed: number): number => Math.max(needed, length + (length >> 1));

/** Answers of the checkpoint's own completions; null for those that it did not sample. */
export type OwnAnswers = (prompt: number, rollout: number) => Answers | null;

/** Answers of finished grid points of one slice, from which drafts are chosen. */
export class DraftSource {
  readonly #own: OwnAnswers;
  readonly #rolloutsPerPrompt: number;
  readonly #mostBytes: number;
  readonly #distance: PointDistance;
  #points: PointAnswers[] = [];
  #bytes = 0;

  /**
   * @param own                of the checkpoint: of the same prompts with the same noise, perhaps of fewer
   * @param rolloutsPerPrompt  at a grid point
   */
  constructor(own: OwnAnswers, rolloutsPerPrompt: number, mostBytes = mostDraftBytes, distance = gridDistance) {
    this.#own = own;
    this.#distance = distance;
    this.#rolloutsPerPrompt = rolloutsPerPrompt;
    this.#mostBytes = mostBytes;
  }

  /** Memory of the answers, bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Keeps a rollout's answers, if there is memory for them. They are used once their point is finished. */
  add(of: RolloutKey, answers: Answers): void {
    if (this.#bytes >= this.#mostBytes) return;
    let point = this.#points.find(({ i, j }) => i === of.i && j === of.j);
    if (point === undefined) {
      point = new PointAnswers(of);
      this.#points.push(point);
      this.#bytes += point.bytes;
    }
    const before = point.bytes;
    point.set(of.prompt * this.#rolloutsPerPrompt + of.rollout, answers);
    this.#bytes += point.bytes - before;
  }

  /**
   * Points are finished: all whose rollouts were added so far, or one of them.
   * @param remaining  grid points that are still to be measured. Answers that none of them uses are dropped once they
   *                   take more than half of the memory
   */
  finish(remaining: readonly Place[], only: Place | null = null): void {
    for (const point of this.#points)
      if (only === null || (point.i === only.i && point.j === only.j)) point.isFinished = true;
    if (this.#bytes <= this.#mostBytes / 2) return;
    const uses = new Map(this.#points.map((point) => [point, 0]));
    for (const cell of remaining)
      for (const point of this.nearest(cell, nearestKept)) uses.set(point, (uses.get(point) ?? 0) + 1);
    const mostUsed = [...uses].sort(([, one], [, other]) => other - one);
    this.#points = [];
    this.#bytes = 0;
    for (const [point, count] of mostUsed) {
      if (count === 0 || this.#bytes + point.bytes > this.#mostBytes / 2) break;
      this.#points.push(point);
      this.#bytes += point.bytes;
    }
  }

  /**
   * The finished points nearest to a cell, nearest first; of equally near ones that which was finished first. To take that whose own
   * drafts for the prompt were accepted best instead was measured, and accepts fewer tokens (docs/performance.md).
   */
  nearest(cell: Place, most = nearestPoints): PointAnswers[] {
    const found: { point: PointAnswers; distance: number }[] = [];
    for (const point of this.#points) {
      if (!point.isFinished) continue;
      const distance = this.#distance(point, cell);
      if (found.length === most && distance >= found[most - 1].distance) continue;
      const at = found.findIndex((one) => one.distance > distance);
      found.splice(at < 0 ? found.length : at, 0, { point, distance });
      if (found.length > most) found.pop();
    }
    return found.map(({ point }) => point);
  }

  /**
   * The drafts of one rollout.
   * @param nearest  of its grid point, `nearest`
   * @returns undefined if nobody has answered this prompt with this noise
   */
  draftOf(nearest: readonly PointAnswers[], { prompt, rollout }: RolloutKey): RolloutDraft | undefined {
    const index = prompt * this.#rolloutsPerPrompt + rollout;
    const own = this.#own(prompt, rollout);
    if (own === null && !nearest.some((point) => point.has(index))) return undefined;
    const others = foundOnce([...nearest.map((point) => () => point.find(index)), () => own]);
    return (earlier, answer) => proposal(others, earlier, answer);
  }
}

/** What the sources have, each looked up when it is first asked for: mostly the first one is enough. */
function foundOnce(sources: readonly (() => SaidAnswers | null)[]): Iterable<SaidAnswers> {
  const found: SaidAnswers[] = [];
  let next = 0;
  return {
    *[Symbol.iterator]() {
      for (let k = 0; ; k++) {
        while (k >= found.length && next < sources.length) {
          const answers = sources[next++]();
          if (answers !== null) found.push(answers);
        }
        if (k >= found.length) return;
        yield found[k];
      }
    },
  };
}

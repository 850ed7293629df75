// How far a sweep is, within grid points too: a grid point of a large model takes minutes to hours, and its rollouts
// end together. The work of a grid point is counted in rollouts and scored completions. A rollout under way counts as a
// fraction: its tokens so far ÷ the mean length of the checkpoint's own completions.
import { formatDuration, type Phase } from "../../engine/host/index.ts";

export class SweepProgress {
  readonly #phase: Phase;
  readonly #rolloutsPerCell: number;
  readonly #scoredPerCell: number;
  readonly #meanTokens: number;
  /** Finished cells of all slices. */
  #done: number;
  #cells = 0;
  /** Completions that were read at the cells under way. */
  #read = 0;
  #shown = 0;
  #rollouts = { finished: 0, total: 0, tokens: 0, drafted: 0, finishedTokens: 0, share: 0 };
  #passStartMs = performance.now();
  #longestPassMs = 0;

  /**
   * @param phase   counts cells
   * @param done    cells already finished at the start
   */
  constructor(
    phase: Phase,
    done: number,
    sizes: { rolloutsPerCell: number; scoredPerCell: number; meanTokens: number },
  ) {
    this.#phase = phase;
    this.#done = done;
    this.#rolloutsPerCell = sizes.rolloutsPerCell;
    this.#scoredPerCell = sizes.scoredPerCell;
    this.#meanTokens = Math.max(1, sizes.meanTokens);
  }

  /** A batch of cells begins; an earlier process has already finished `kept` of its rollouts. */
  beginBatch(cells: number, kept: number): void {
    this.#cells = cells;
    const total = cells * this.#rolloutsPerCell;
    this.#rollouts = { finished: kept, total, tokens: 0, drafted: 0, finishedTokens: 0, share: 0 };
    this.#passStartMs = performance.now();
  }

  /** A cell begins beside those under way; an earlier process has already finished `kept` of its rollouts. */
  beginCell(kept: number): void {
    this.#cells++;
    this.#rollouts.total += this.#rolloutsPerCell;
    this.#rollouts.finished += kept;
    this.#rollouts.share = 0;
  }

  /** One of the cells under way is scored. */
  endCell(): void {
    this.#done++;
    this.#cells--;
    this.#read = Math.max(0, this.#read - this.#scoredPerCell);
    this.#rollouts.total -= this.#rolloutsPerCell;
    this.#rollouts.finished -= this.#rolloutsPerCell;
    this.#rollouts.share = 0;
    this.#show(0);
  }

  rolloutEnded(tokens: number): void {
    this.#rollouts.finished++;
    this.#rollouts.finishedTokens += tokens;
  }

  /** After a forward pass of the rollouts. @param drafted  how many of the sampled tokens a draft had proposed */
  rolloutPass(sampled: number, drafted = 0): void {
    this.#clock();
    const state = this.#rollouts;
    state.tokens += sampled;
    state.drafted += drafted;
    const running = state.total - state.finished;
    const of = running === 0 ? 0 : (state.tokens - state.finishedTokens) / (running * this.#meanTokens);
    const share = (state.finished + running * Math.min(Math.max(of, 0), 0.95)) / state.total;
    state.share = Math.max(state.share, share); // an answer longer than expected does not lower the progress
    this.#show(
      (this.#cells * this.#rolloutsPerCell * state.share + this.#read) / (this.#rolloutsPerCell + this.#scoredPerCell),
      `rollouts ${state.finished}/${state.total}, ${state.tokens} tokens` +
        (state.drafted === 0 ? "" : `, ${Math.floor((100 * state.drafted) / state.tokens)}% drafted`),
    );
  }

  /** After a forward pass that scored completions at cell `index` of the batch; `scored` of them are scored so far. */
  scoringPass(index: number, scored: number): void {
    this.#clock();
    const perCell = this.#rolloutsPerCell + this.#scoredPerCell;
    this.#show(
      (this.#cells * this.#rolloutsPerCell + index * this.#scoredPerCell + scored) / perCell,
      `scoring point ${index + 1} of ${this.#cells}`,
    );
  }

  /** One of the checkpoint's completions was read at one of the cells under way. */
  completionRead(): void {
    this.#read++;
  }

  endBatch(): void {
    this.#done += this.#cells;
    this.#cells = 0;
    this.#show(0, "");
  }

  /** Cells were taken as they had been measured before. */
  took(cells: number): void {
    if (cells === 0) return;
    this.#done += cells;
    this.#show(0, "");
  }

  /** "after the forward pass under way (the longest took 12.0 s)" */
  stopText(): string {
    const longest =
      this.#longestPassMs < 1000 ? "" : ` (the longest so far took ${formatDuration(this.#longestPassMs)})`;
    return `after the forward pass under way${longest}`;
  }

  #show(cells: number, note?: string): void {
    // A point that begins beside others, or an answer longer than expected, does not lower the progress.
    this.#shown = Math.max(this.#shown, this.#done + cells);
    this.#phase.moveTo(this.#shown, note);
  }

  #clock(): void {
    const now = performance.now();
    this.#longestPassMs = Math.max(this.#longestPassMs, now - this.#passStartMs);
    this.#passStartMs = now;
  }
}

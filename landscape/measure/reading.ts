// J and KL of a point from the passes of its rollouts: the checkpoint's own completions are read as texts beside them
// (model/dialogue.ts). Prompts, and what the point's rollouts and the completions say alike, are computed once for both. The numbers
// are those of `scorePoints`, to the bit.
import { fromArray, klReader, type NumberArray, NumericalError, noRowOfP } from "../../engine/index.ts";
import {
  headWeight,
  type Model,
  notNumbers,
  type ReadStates,
  type StatesUse,
  scoredPositions,
  type Text,
} from "../../model/index.ts";
import type { CellRecord } from "../files/cells.ts";
import {
  addToken,
  cutSums,
  emptySums,
  type PointScoring,
  type Reference,
  type ReferencePart,
  type Sums,
} from "./reference.ts";

/** A completion, as it is read at every point. */
interface Completion {
  readonly prompt: number;
  /** Its text, but for the point. */
  readonly text: Omit<Text, "policy">;
  readonly part: ReferencePart;
  /** Its first scored token among those of the part. */
  readonly first: number;
  readonly advantage: number;
}

/** A completion that is being read at a point. */
interface Reading {
  readonly completion: Completion;
  readonly point: PointReading;
  readonly sums: Sums;
}

/** The completions that a point reads. */
interface PointReading {
  readonly known: CellRecord["reference"] | null;
  readonly sums: Sums[];
  left: number;
}

export class ReferenceReader {
  readonly #plain: Model;
  readonly #perturbed: Model;
  readonly #reference: Reference;
  readonly #settings: PointScoring;
  readonly #completions: readonly Completion[];
  readonly #readings = new Map<Text, Reading>();
  readonly #points = new Map<number, PointReading>();
  /** Called when a completion was read at a point. */
  onRead: (point: number) => void = () => {};

  constructor(plain: Model, perturbed: Model, reference: Reference, settings: PointScoring) {
    this.#plain = plain;
    this.#perturbed = perturbed;
    this.#reference = reference;
    this.#settings = settings;
    this.#completions = completionsOf(reference);
  }

  /**
   * Begins to read at a point.
   * @returns the number of completions, and the texts of each prompt
   */
  begin(point: number): { readonly count: number; readonly textsOf: (prompt: number) => Iterable<Text> } {
    const known = this.#settings.known?.(point) ?? null;
    const from = (known?.kl.length ?? 0) * this.#reference.rolloutsPerPrompt;
    const own: PointReading = { known, sums: [], left: this.#completions.length - from };
    this.#points.set(point, own);
    const byPrompt = new Map<number, number[]>();
    for (let c = from; c < this.#completions.length; c++) {
      own.sums.push(emptySums());
      const { prompt } = this.#completions[c];
      byPrompt.set(prompt, [...(byPrompt.get(prompt) ?? []), c]);
    }
    const textAt = (c: number): Text => {
      const completion = this.#completions[c];
      const text = { ...completion.text, policy: point };
      this.#readings.set(text, { completion, point: own, sums: own.sums[c - from] });
      return text;
    };
    return { count: own.left, textsOf: (prompt) => (byPrompt.get(prompt) ?? []).map(textAt) };
  }

  /** The scores of a point whose completions have all been read. */
  end(point: number): CellRecord["reference"] {
    const own = this.#points.get(point);
    if (own === undefined || own.left > 0) throw new Error(`sweep: completions of point ${point} were not read`);
    this.#points.delete(point);
    return cutSums(own.sums, this.#reference.rolloutsPerPrompt, own.known);
  }

  /** For `GenerateSettings.onStates`. */
  onStates = ({ hidden, texts }: ReadStates): StatesUse => {
    const { backend, config, weights } = this.#plain;
    const states = new ReferenceStates(config.hiddenSize);
    const rowOfP = new Uint32Array(hidden.rows).fill(noRowOfP);
    const targets: number[] = [];
    const rowOfTarget: number[] = [];
    const read = texts.map(({ text, first, rowOf }) => {
      const reading = this.#readings.get(text);
      if (reading === undefined) throw new Error("sweep: a text is read that no point has begun");
      const { part, first: firstToken } = reading.completion;
      const { answers } = part;
      const places = rowOf.map((_, n) => answers.places[firstToken + first + n]);
      rowOf.forEach((row, n) => {
        rowOfP[row] = states.rowOf(part, places[n]);
        targets.push(answers.targets[places[n]]);
        rowOfTarget.push(row);
      });
      return { reading, text, rowOf, places, isLast: first < 0 || first + rowOf.length === text.wanted.length };
    });
    const reader = klReader({
      hiddenQ: hidden,
      headQ: headWeight(config, this.#perturbed.weights),
      hiddenP: fromArray(backend, states.hidden(), [states.count, config.hiddenSize], "f32", "reference hidden"),
      headP: headWeight(config, weights),
      logSumExpP: fromArray(backend, states.logSumExp(), [states.count], "f32", "reference log-sum-exp"),
      rowOfP,
      targets: fromArray(backend, targets, [targets.length], "u32", "targets"),
      rowOfTarget: Uint32Array.from(rowOfTarget),
      temperature: 1,
    });
    return {
      reader,
      take: ([ofTargets, entropies, , divergences]: readonly NumberArray[]) => {
        const isRead = (_: number, row: number): boolean => rowOfP[row] !== noRowOfP;
        if (this.#perturbed.weights.operands === "f16" && !divergences.filter(isRead).every(Number.isFinite))
          throw new NumericalError(notNumbers("sweep", this.#perturbed.weights));
        let target = 0;
        for (const { reading, text, rowOf, places, isLast } of read) {
          const { completion, point, sums } = reading;
          rowOf.forEach((row, n) => {
            const d = ofTargets[target++] - completion.part.logProbs[places[n]];
            addToken(sums, d, divergences[row], entropies[row], completion.advantage, this.#settings);
          });
          if (!isLast) continue;
          point.left--;
          this.#readings.delete(text);
          this.onRead(text.policy);
        }
      },
    };
  };
}

/** The states of the checkpoint that a pass compares with, each once. */
class ReferenceStates {
  readonly #width: number;
  readonly #rows = new Map<ReferencePart, Map<number, number>>();
  readonly #places: { readonly part: ReferencePart; readonly place: number }[] = [];

  constructor(width: number) {
    this.#width = width;
  }

  get count(): number {
    return this.#places.length;
  }

  /** The row of the state before a scored token. */
  rowOf(part: ReferencePart, place: number): number {
    const rows = this.#rows.get(part) ?? new Map<number, number>();
    this.#rows.set(part, rows);
    // Several scored tokens may come after one state.
    const before = part.answers.before[place];
    let row = rows.get(before);
    if (row === undefined) {
      row = this.#places.push({ part, place }) - 1;
      rows.set(before, row);
    }
    return row;
  }

  hidden(): Float32Array {
    const all = new Float32Array(this.#places.length * this.#width);
    for (const [row, { part, place }] of this.#places.entries())
      all.set(part.hidden.subarray(place * this.#width, (place + 1) * this.#width), row * this.#width);
    return all;
  }

  logSumExp(): Float32Array {
    return Float32Array.from(this.#places, ({ part, place }) => part.logSumExp[place]);
  }
}

function completionsOf({ parts, advantages, rolloutsPerPrompt }: Reference): Completion[] {
  const completions: Completion[] = [];
  for (const part of parts) {
    let first = 0;
    for (const sequence of part.sequences) {
      const positions = scoredPositions(sequence);
      const length = positions[0];
      const ids = Array.from(sequence.ids);
      completions.push({
        ...{ prompt: Math.floor(completions.length / rolloutsPerPrompt), part, first },
        advantage: advantages[completions.length],
        text: {
          prompt: ids.slice(0, length),
          ids: ids.slice(length, positions[positions.length - 1] + 1),
          wanted: positions.map((t) => t - length),
          // An answer's last token waits for the next turn.
          pauses: positions.flatMap((t, n) =>
            n + 1 < positions.length && positions[n + 1] > t + 1 ? [t - length] : [],
          ),
        },
      });
      first += positions.length;
    }
  }
  return completions;
}

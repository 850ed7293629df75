// Checks results of workers and puts them into the run folder. A result is taken only if its schema, plan, keys, shapes,
// directions and the checkpoint's own completions are those of the study.
import { existsSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { asError, type OnDamage, readJson, writeAtomic } from "../../engine/host/index.ts";
import { provenancePath, readProvenance } from "../../rl/index.ts";
import { alarmText, keepAlarm } from "../files/alarms.ts";
import { ArrivedCells } from "../files/arrived-cells.ts";
import { type CellRecord, type ReferenceSet, referenceSet, writeReference } from "../files/cells.ts";
import { referencePath, sliceFolder, slicePaths } from "../files/layout.ts";
import { readEarlier } from "../files/set-aside.ts";
import { readSliceFacts, type SliceFacts, writeFacts } from "../files/slice-facts.ts";
import { type GridCell, workOrder } from "../grid.ts";
import type { SweepJob } from "../measure/sweep-checkpoints.ts";
import type { StudySettings } from "../settings.ts";
import { type ResultBody, type Stripe, type StripeResult, unpackResult, type WorkerName } from "./messages.ts";
import { canMix, mixedNames, planDifference } from "./plans.ts";
import type { SecondWorkers } from "./second-workers.ts";
import { type AnnouncedStudy, digestOf, keyOf } from "./study-message.ts";
import type { WorkerTable } from "./worker-table.ts";

/** A result that is not taken; the message says why. */
export class RefusedResult extends Error {
  override name = "RefusedResult";
}

interface TakenParts {
  job: SweepJob;
  study: AnnouncedStudy;
  step: number;
  slices: readonly number[];
  workers: WorkerTable;
  say: OnDamage;
}

export class TakenResults {
  readonly slices: readonly number[];
  readonly #parts: TakenParts;
  readonly #digest: string;
  readonly #order: readonly GridCell[];
  readonly #cells: ReadonlyMap<number, ArrivedCells>;
  #reference: ReferenceSet | null = null;
  readonly #facts = new Map<number, SliceFacts>();
  /** Who measured a cell, for alarms. */
  readonly #by = new Map<string, string>();

  constructor(parts: TakenParts) {
    const { job, study, step, slices, say } = parts;
    this.#parts = parts;
    this.slices = slices;
    const checkpoint = study.checkpoints.find((one) => one.step === step);
    if (checkpoint === undefined) throw new Error(`queue: no checkpoint of step ${step}`);
    this.#digest = digestOf(checkpoint);
    const { landscape } = job.settings;
    this.#order = workOrder(landscape);
    const isWhole = (record: CellRecord): boolean => shapeProblem(record, landscape) === null;
    this.#cells = new Map(
      slices.map((slice) => {
        const own = sliceFolder(job.folder, { step, slice });
        if (existsSync(slicePaths(own).underWay))
          say(
            `Step ${step}, slice ${slice}: finished rollouts of points under way are in ${slicePaths(own).underWay}. Workers do not have ` +
              "them: without --queue the same command would use them.",
          );
        const partial = [...readEarlier(own, say).values()].filter(({ record }) => !isWhole(record)).length;
        if (partial > 0)
          say(`Step ${step}, slice ${slice}: ${partial} cells of the smaller study are measured again as a whole.`);
        const arrived = new ArrivedCells(own, this.#order, isWhole, say);
        arrived.settle();
        return [slice, arrived] as const;
      }),
    );
    const path = referencePath(job.folder, step);
    if (existsSync(path) && this.size > 0) this.#reference = readJson(path, referenceSet);
    for (const slice of slices) {
      const facts = this.#arrived(slice).size === 0 ? null : readSliceFacts(job.folder, { step, slice }, say);
      if (facts !== null) this.#facts.set(slice, facts);
    }
  }

  /** How many cells are there. */
  get size(): number {
    return [...this.#cells.values()].reduce((sum, { size }) => sum + size, 0);
  }

  has(slice: number, cell: Pick<GridCell, "i" | "j">): boolean {
    return this.#arrived(slice).has(cell);
  }

  keyOf(slice: number, cell: GridCell): string {
    return keyOf({ ...this.#parts.study, checkpoint: this.#digest }, slice, cell);
  }

  /**
   * Puts the cells of a result into the folder; those that are there already are compared.
   * @throws RefusedResult
   */
  async take(stripe: Stripe, value: unknown, checks: SecondWorkers): Promise<WorkerName> {
    const { workers, job } = this.#parts;
    const { head, body } = unpacked(value);
    const { worker, seconds } = head;
    const shown = workers.nameOf(worker);
    const refuse = (problem: string): never => {
      throw new RefusedResult(`the result of worker ${shown} is not taken: ${problem}.`);
    };
    if (worker.id === stripe.notBy) refuse("it checked its own cells");
    const cells = this.#expected(stripe, body, refuse);
    this.#expectPlan(head, refuse);
    this.#expectSame(stripe.slice, body, head, refuse);
    const arrived = this.#arrived(stripe.slice);
    for (const [index, { record, conversations }] of body.cells.entries()) {
      const { i, j } = cells[index];
      if (!arrived.has(record)) {
        await arrived.take(record, conversations);
        this.#by.set(`${stripe.slice},${i},${j}`, shown);
      } else {
        const isSame = arrived.isSame(record, conversations);
        if (stripe.notBy !== null) checks.compared(isSame);
        if (!isSame) this.#alarm(stripe.slice, { i, j }, shown);
      }
    }
    workers.took(worker, cells.length, seconds, stripe.notBy !== null);
    job.timings.record({ phase: "stripe", step: this.#parts.step, slice: stripe.slice, cells: cells.length, seconds });
    return worker;
  }

  close(): void {
    for (const arrived of this.#cells.values()) arrived.close();
  }

  #arrived(slice: number): ArrivedCells {
    const found = this.#cells.get(slice);
    if (found === undefined) throw new RefusedResult(`slice ${slice} is not asked for.`);
    return found;
  }

  /** The cells of a result, which must be those of the stripe, in its order. */
  #expected(stripe: Stripe, { cells }: ResultBody, refuse: (problem: string) => never): GridCell[] {
    if (cells.length !== stripe.cells.length) refuse(`it has ${cells.length} cells of ${stripe.cells.length}`);
    return stripe.cells.map(({ i, j, key }, index) => {
      const cell =
        this.#order.find((one) => one.i === i && one.j === j) ?? refuse(`cell (${i}, ${j}) is not in the grid`);
      const { record } = cells[index];
      if (key !== this.keyOf(stripe.slice, cell)) refuse(`cell (${i}, ${j}) has the key of another study`);
      const { alpha, beta } = record;
      if (record.i !== i || record.j !== j || alpha !== cell.alpha || beta !== cell.beta)
        refuse(`expected cell (${i}, ${j}), got (${record.i}, ${record.j}) at ${alpha}, ${beta}`);
      const problem = shapeProblem(record, this.#parts.job.settings.landscape);
      if (problem !== null) refuse(`cell (${i}, ${j}): ${problem}`);
      return cell;
    });
  }

  /** Another driver or version is refused, or marked in the folder before its first cell is. */
  #expectPlan({ plan, worker }: StripeResult, refuse: (problem: string) => never): void {
    const { study, job, workers, say } = this.#parts;
    const difference = planDifference(study.plan, plan);
    if (difference === null) return;
    if (!canMix(study.plan, plan) || !study.allowMixed) refuse(difference);
    const provenance = readProvenance(job.folder);
    const mixed = mixedNames(provenance.mixed, study.plan, plan);
    if (isDeepStrictEqual(mixed, provenance.mixed)) return;
    say(`Mixed: cells of worker ${workers.nameOf(worker)} are taken although ${difference}. Every figure says so.`);
    writeAtomic(provenancePath(job.folder), `${JSON.stringify({ ...provenance, mixed }, null, 1)}\n`);
  }

  /** The completions and directions that all cells of a map rest on. The first result brings them. */
  #expectSame(
    slice: number,
    { reference, facts }: ResultBody,
    { plan }: StripeResult,
    refuse: (problem: string) => never,
  ): void {
    const { job, study, step } = this.#parts;
    const { prompts, rollouts } = job.settings.landscape.reference;
    for (const values of [reference.tokens, reference.reward, reference.advantage])
      if (values.length !== prompts || values.some(({ length }) => length !== rollouts))
        refuse(`the checkpoint's own completions are not ${prompts} × ${rollouts}`);
    if (this.#reference !== null && !isDeepStrictEqual(reference, this.#reference))
      refuse(
        "the checkpoint's own completions are others than those of the cells before. ALARM: one of the machines computes wrongly",
      );
    const { seed } = job.settings.landscape;
    if (facts.slice !== slice || facts.seed !== seed) refuse("it is of another slice or seed");
    const before = this.#facts.get(slice);
    const isSame = planDifference(study.plan, plan) === null;
    if (before !== undefined && (before.digest !== facts.digest || (isSame && !isDeepStrictEqual(before, facts))))
      refuse("its directions are others than those of the cells before");
    if (before !== undefined && !isDeepStrictEqual(before.fixedKl, facts.fixedKl))
      refuse(
        "the scales of its directions (landscape.directions.kl) are others than those of the cells before: another driver ends its search " +
          "elsewhere",
      );
    if (this.#reference === null) writeReference(job.folder, step, reference);
    this.#reference ??= reference;
    if (before !== undefined) return;
    writeFacts(sliceFolder(job.folder, { step, slice }), facts);
    this.#facts.set(slice, facts);
  }

  #alarm(slice: number, { i, j }: Pick<GridCell, "i" | "j">, second: string): void {
    const { job, step, say } = this.#parts;
    const alarm = { step, slice, i, j, first: this.#by.get(`${slice},${i},${j}`) ?? null, second };
    keepAlarm(job.folder, alarm);
    say(alarmText(job.folder, alarm));
  }
}

function unpacked(value: unknown): ReturnType<typeof unpackResult> {
  try {
    return unpackResult(value);
  } catch (thrown) {
    throw new RefusedResult(`a worker returned what is no result (${asError(thrown).message}).`);
  }
}

/** What is wrong with the shape of a record, in words; null if it has all prompts and rollouts. */
function shapeProblem(
  { rollouts, reference, firstDifference }: CellRecord,
  landscape: Pick<StudySettings["landscape"], "reference" | "rollouts">,
): string | null {
  const problem = (
    name: string,
    values: readonly (readonly number[])[] | undefined,
    size: typeof landscape.reference,
  ) =>
    values === undefined || (values.length === size.prompts && values.every(({ length }) => length === size.rollouts))
      ? []
      : [`${name} is not ${size.prompts} × ${size.rollouts}`];
  const both = {
    prompts: Math.min(landscape.reference.prompts, landscape.rollouts.prompts),
    rollouts: Math.min(landscape.reference.rollouts, landscape.rollouts.rollouts),
  };
  const found = [
    ...Object.entries(rollouts).flatMap(([name, values]) => problem(`rollouts.${name}`, values, landscape.rollouts)),
    ...Object.entries(reference).flatMap(([name, values]) => problem(`reference.${name}`, values, landscape.reference)),
    ...problem("firstDifference", firstDifference, both),
  ];
  return found[0] ?? null;
}

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
import { type PointPart, partFolder, partText } from "../files/point-parts.ts";
import { readEarlier } from "../files/set-aside.ts";
import { readSliceFacts, type SliceFacts, writeFacts } from "../files/slice-facts.ts";
import type { PointPlace } from "../grid.ts";
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
  parts: readonly PointPart[];
  workers: WorkerTable;
  say: OnDamage;
}

export class TakenResults {
  readonly parts: readonly PointPart[];
  readonly #parts: TakenParts;
  readonly #digest: string;
  readonly #cells: ReadonlyMap<string, ArrivedCells>;
  #reference: ReferenceSet | null = null;
  /** By the names of slices. */
  readonly #facts = new Map<string, SliceFacts>();
  /** Who measured a cell, for alarms. */
  readonly #by = new Map<string, string>();

  constructor(parts: TakenParts) {
    const { job, study, step, say } = parts;
    this.#parts = parts;
    this.parts = parts.parts;
    const checkpoint = study.checkpoints.find((one) => one.step === step);
    if (checkpoint === undefined) throw new Error(`queue: no checkpoint of step ${step}`);
    this.#digest = digestOf(checkpoint);
    const { landscape } = job.settings;
    const isWhole = (record: CellRecord): boolean => shapeProblem(record, landscape) === null;
    this.#cells = new Map(
      this.parts.map((part) => {
        const own = partFolder(job.folder, step, part);
        if (existsSync(slicePaths(own).underWay))
          say(
            `Step ${step}, ${partText(part.name)}: finished rollouts of points under way are in ${slicePaths(own).underWay}. Workers do not have ` +
              "them: without --queue the same command would use them.",
          );
        const partial = [...readEarlier(own, say, part.placeOf).values()].filter(
          ({ record }) => !isWhole(record),
        ).length;
        if (partial > 0)
          say(
            `Step ${step}, ${partText(part.name)}: ${partial} cells of the smaller study are measured again as a whole.`,
          );
        const arrived = new ArrivedCells(own, part.points, isWhole, say, part.placeOf);
        arrived.settle();
        return [part.name, arrived] as const;
      }),
    );
    const path = referencePath(job.folder, step);
    if (existsSync(path) && this.size > 0) this.#reference = readJson(path, referenceSet);
    for (const { name, slice } of this.parts) {
      if (slice === null || this.#arrived(name).size === 0) continue;
      const facts = readSliceFacts(job.folder, { step, slice }, say);
      if (facts !== null) this.#facts.set(name, facts);
    }
  }

  /** How many cells are there. */
  get size(): number {
    return [...this.#cells.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** @param part  its name */
  has(part: string, cell: Pick<PointPlace, "i" | "j">): boolean {
    return this.#arrived(part).has(cell);
  }

  keyOf(part: string, cell: PointPlace): string {
    return keyOf({ ...this.#parts.study, checkpoint: this.#digest }, part, cell);
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
    this.#expectSame(stripe.part, body, head, refuse);
    const arrived = this.#arrived(stripe.part);
    for (const [index, { record, conversations }] of body.cells.entries()) {
      const { i, j } = cells[index];
      if (!arrived.has(record)) {
        await arrived.take(record, conversations);
        this.#by.set(`${stripe.part},${i},${j}`, shown);
      } else {
        const isSame = arrived.isSame(record, conversations);
        if (stripe.notBy !== null) checks.compared(isSame);
        if (!isSame) this.#alarm(stripe.part, { i, j }, shown);
      }
    }
    workers.took(worker, cells.length, seconds, stripe.notBy !== null);
    job.timings.record({ phase: "stripe", step: this.#parts.step, part: stripe.part, cells: cells.length, seconds });
    return worker;
  }

  close(): void {
    for (const arrived of this.#cells.values()) arrived.close();
  }

  #arrived(part: string): ArrivedCells {
    const found = this.#cells.get(part);
    if (found === undefined) throw new RefusedResult(`${part} is not asked for.`);
    return found;
  }

  /** The cells of a result, which must be those of the stripe, in its order. */
  #expected(stripe: Stripe, { cells }: ResultBody, refuse: (problem: string) => never): PointPlace[] {
    if (cells.length !== stripe.cells.length) refuse(`it has ${cells.length} cells of ${stripe.cells.length}`);
    const points = this.parts.find(({ name }) => name === stripe.part)?.points ?? [];
    return stripe.cells.map(({ i, j, key }, index) => {
      const cell =
        points.find((one) => one.i === i && one.j === j) ?? refuse(`cell (${i}, ${j}) is not in ${stripe.part}`);
      const { record } = cells[index];
      if (key !== this.keyOf(stripe.part, cell)) refuse(`cell (${i}, ${j}) has the key of another study`);
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
    part: string,
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
    const keepReference = (): void => {
      if (this.#reference === null) writeReference(job.folder, step, reference);
      this.#reference ??= reference;
    };
    const slice = this.parts.find(({ name }) => name === part)?.slice ?? null;
    if (slice === null) {
      if (facts !== null) refuse("it has directions of a slice");
      keepReference();
      return;
    }
    if (facts === null) throw refuse("it has no directions");
    if (facts.slice !== slice || facts.seed !== seed) refuse("it is of another slice or seed");
    const before = this.#facts.get(part);
    const isSame = planDifference(study.plan, plan) === null;
    if (before !== undefined && (before.digest !== facts.digest || (isSame && !isDeepStrictEqual(before, facts))))
      refuse("its directions are others than those of the cells before");
    if (before !== undefined && !isDeepStrictEqual(before.fixedKl, facts.fixedKl))
      refuse(
        "the scales of its directions (landscape.directions.kl) are others than those of the cells before: another driver ends its search " +
          "elsewhere",
      );
    keepReference();
    if (before !== undefined) return;
    writeFacts(sliceFolder(job.folder, { step, slice }), facts);
    this.#facts.set(part, facts);
  }

  #alarm(part: string, { i, j }: Pick<PointPlace, "i" | "j">, second: string): void {
    const { job, step, say } = this.#parts;
    const slice = this.parts.find(({ name }) => name === part)?.slice ?? null;
    const place = slice === null ? { part } : { slice };
    const alarm = { step, ...place, i, j, first: this.#by.get(`${part},${i},${j}`) ?? null, second };
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

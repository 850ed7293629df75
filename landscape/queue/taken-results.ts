// Checks results of workers and puts them into the run folder. A result is taken only if its schema, plan, keys, shapes,
// directions and the checkpoint's own completions are those of the study.
import { isDeepStrictEqual } from "node:util";
import { asError, type OnDamage, writeAtomic } from "../../engine/host/index.ts";
import { provenancePath, readProvenance } from "../../rl/index.ts";
import { alarmText, keepAlarm } from "../files/alarms.ts";
import type { ReferenceSet } from "../files/cells.ts";
import type { ItemPart } from "../files/item-parts.ts";
import { sliceFolder } from "../files/layout.ts";
import { partFolder } from "../files/point-parts.ts";
import { type WorstFacts, writeWorstFacts } from "../files/ray-files.ts";
import { readSliceFacts, type SliceFacts, writeFacts } from "../files/slice-facts.ts";
import type { PointPlace } from "../grid.ts";
import type { SweepJob } from "../measure/sweep-checkpoints.ts";
import { gapText } from "../measure/worst-rays.ts";
import { discardPoints, type HandedPart, type HandedParts, type HandedPoints, isGap } from "./handed-parts.ts";
import type { KeptReferences } from "./kept-references.ts";
import { type ResultBody, type Stripe, type StripeResult, unpackResult, type WorkerName } from "./messages.ts";
import { canMix, mixedNames, planDifference } from "./plans.ts";
import { isReference, itemProblem, shapeProblem } from "./result-shapes.ts";
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
  parts: HandedParts;
  references: KeptReferences;
  workers: WorkerTable;
  say: OnDamage;
}

export class TakenResults {
  readonly parts: HandedParts;
  readonly #parts: TakenParts;
  readonly #digest: string;
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
    if (this.size > 0 || this.parts.hasOthers) parts.references.read(step);
    for (let slice = 0; slice < job.settings.landscape.slices; slice++) {
      const part = this.parts.find(`slice-${slice}`);
      if (part !== undefined && part.arrived.size === 0) continue;
      const facts = readSliceFacts(job.folder, { step, slice }, say);
      if (facts !== null) this.#facts.set(`slice-${slice}`, facts);
    }
  }

  /** How many points and items are there. */
  get size(): number {
    return this.parts.size;
  }

  has(part: HandedPart, cell: PointPlace): boolean {
    return isGap(part) || part.arrived.has(cell);
  }

  /** @param part  its name */
  keyOf(part: string, cell: PointPlace): string {
    return keyOf({ ...this.#parts.study, checkpoint: this.#digest }, part, cell);
  }

  /**
   * Puts the cells of a result into the folder; those that are there already are compared.
   * @throws RefusedResult
   */
  async take(stripe: Stripe, value: unknown, checks: SecondWorkers): Promise<WorkerName> {
    const { workers, job, step } = this.#parts;
    const { head, body } = unpacked(value);
    const { worker, seconds } = head;
    const shown = workers.nameOf(worker);
    const refuse = (problem: string): never => {
      throw new RefusedResult(`the result of worker ${shown} is not taken: ${problem}.`);
    };
    if (worker.id === stripe.notBy) refuse("it checked its own cells");
    const part = this.parts.find(stripe.part);
    if (part === undefined) throw new RefusedResult(`${stripe.part} is not asked for.`);
    const cells = this.#places(part, stripe, refuse);
    if (part.items === null) this.#expectPoints(part, cells, body, refuse);
    else this.#expectItems(part.items, cells, body, refuse);
    this.#expectPlan(head, refuse);
    this.#expectSame(part, body, head, refuse);
    for (const [index, cell] of cells.entries()) {
      if (isGap(part)) break;
      const took = await takeAt(part, cell, body, index);
      if (took === null) this.#by.set(`${stripe.part},${cell.i},${cell.j}`, shown);
      else {
        if (stripe.notBy !== null) checks.compared(took.isSame);
        if (!took.isSame) this.#alarm(part, cell, shown);
      }
    }
    workers.took(worker, cells.length, seconds, stripe.notBy !== null);
    job.timings.record({ phase: "stripe", step, part: stripe.part, cells: cells.length, seconds });
    return worker;
  }

  close(): void {
    this.parts.close();
  }

  /** The places of a stripe, whose keys must be those of this study. */
  #places({ name, neighbours }: HandedPart, stripe: Stripe, refuse: (problem: string) => never): PointPlace[] {
    return stripe.cells.map(({ i, j, key }) => {
      const place =
        neighbours.find((one) => one.i === i && one.j === j) ?? refuse(`cell (${i}, ${j}) is not in ${name}`);
      if (key !== this.keyOf(name, place)) refuse(`cell (${i}, ${j}) has the key of another study`);
      return place;
    });
  }

  /** The cells of a result must be those of the stripe, in its order. */
  #expectPoints(
    part: HandedPoints,
    places: readonly PointPlace[],
    { cells, items, worst, other }: ResultBody,
    refuse: (problem: string) => never,
  ): void {
    if (items.length > 0 || other !== null) refuse("it has more than points");
    this.#expectWorst(part, worst, cells.length, refuse);
    if (worst !== null && worst.problem !== null) return;
    if (cells.length !== places.length) refuse(`it has ${cells.length} cells of ${places.length}`);
    for (const [index, { i, j, alpha, beta }] of places.entries()) {
      const { record } = cells[index];
      if (record.i !== i || record.j !== j || record.alpha !== alpha || record.beta !== beta)
        refuse(`expected cell (${i}, ${j}), got (${record.i}, ${record.j}) at ${record.alpha}, ${record.beta}`);
      const problem = shapeProblem(record, part.shape);
      if (problem !== null) refuse(`cell (${i}, ${j}): ${problem}`);
    }
  }

  /** How a worst-case ray was made is the same for all of its points. */
  #expectWorst(
    { points, worst: before }: HandedPoints,
    worst: WorstFacts | null,
    cells: number,
    refuse: (problem: string) => never,
  ): void {
    if (points.worst === null) {
      if (worst !== null) refuse("it has a worst-case ray");
      return;
    }
    if (worst === null) throw refuse("it says nothing of its worst-case ray");
    const { norm } = this.#parts.job.settings.landscape.rays;
    if (worst.kind !== points.worst || worst.norm !== norm) refuse("it is of another worst-case ray");
    if (worst.problem !== null && cells > 0) refuse("it has points of a ray without a direction");
    if (before !== null && !isDeepStrictEqual(worst, before))
      refuse(
        "its worst-case ray is another than that of the points before. ALARM: one of the machines computes wrongly",
      );
  }

  #expectItems(
    part: ItemPart,
    places: readonly PointPlace[],
    { cells, items, worst }: ResultBody,
    refuse: (problem: string) => never,
  ): void {
    if (cells.length > 0 || worst !== null) refuse("it has points");
    if (items.length !== places.length) refuse(`it has ${items.length} items of ${places.length}`);
    const { job, step } = this.#parts;
    for (const [index, place] of places.entries()) {
      const problem = itemProblem(items[index], place, part, job.settings.landscape, step);
      if (problem !== null) refuse(`${part.name} (${place.i}, ${place.j}): ${problem}`);
    }
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
    part: HandedPart,
    { reference, facts, worst, other }: ResultBody,
    { plan }: StripeResult,
    refuse: (problem: string) => never,
  ): void {
    const { job, study, step, references, say } = this.#parts;
    const { landscape } = job.settings;
    const { prompts, rollouts } = landscape.reference;
    const map = part.items?.map ?? null;
    if ((other === null) !== (map === null)) refuse("the completions of another checkpoint are missing, or too many");
    const sets: [number, ReferenceSet][] = [[step, reference]];
    if (other !== null && map !== null) sets.push([map.from, other]);
    for (const [of, set] of sets) {
      if (!isReference(set, landscape)) refuse(`the checkpoint's own completions are not ${prompts} × ${rollouts}`);
      if (references.differs(of, set))
        refuse(
          "the checkpoint's own completions are others than those of the cells before. ALARM: one of the machines computes wrongly",
        );
    }
    const slice = part.points?.slice ?? map?.slice ?? null;
    const name = `slice-${slice}`;
    const before = this.#facts.get(name);
    if (slice === null) {
      if (facts !== null) refuse("it has directions of a slice");
    } else {
      if (facts === null) throw refuse("it has no directions");
      if (facts.slice !== slice || facts.seed !== landscape.seed) refuse("it is of another slice or seed");
      const isSame = planDifference(study.plan, plan) === null;
      if (before !== undefined && (before.digest !== facts.digest || (isSame && !isDeepStrictEqual(before, facts))))
        refuse("its directions are others than those of the cells before");
      if (before !== undefined && !isDeepStrictEqual(before.fixedKl, facts.fixedKl))
        refuse(
          "the scales of its directions (landscape.directions.kl) are others than those of the cells before: another driver ends its search " +
            "elsewhere",
        );
    }
    for (const [of, set] of sets) references.keep(of, set);
    if (facts !== null && before === undefined) {
      writeFacts(sliceFolder(job.folder, { step, slice: facts.slice }), facts);
      this.#facts.set(name, facts);
    }
    if (part.points === null || worst === null || part.worst !== null) return;
    const own = partFolder(job.folder, step, part);
    if (worst.problem !== null) {
      say(gapText(step, worst));
      discardPoints(part, own);
    }
    writeWorstFacts(own, worst);
    part.worst = worst;
  }

  #alarm({ name, points }: HandedPart, { i, j }: Pick<PointPlace, "i" | "j">, second: string): void {
    const { job, step, say } = this.#parts;
    const slice = points?.slice ?? null;
    const place = slice === null ? { part: name } : { slice };
    const alarm = { step, ...place, i, j, first: this.#by.get(`${name},${i},${j}`) ?? null, second };
    keepAlarm(job.folder, alarm);
    say(alarmText(job.folder, alarm));
  }
}

/** Adds what a result has of a place. @returns null if it was not there; else whether it is the same */
async function takeAt(
  part: HandedPart,
  cell: PointPlace,
  body: ResultBody,
  index: number,
): Promise<{ isSame: boolean } | null> {
  if (part.items !== null) {
    const item = body.items[index];
    if (part.arrived.has(cell)) return { isSame: part.arrived.isSame(cell, item) };
    part.arrived.take(cell, item);
    return null;
  }
  const { record, conversations } = body.cells[index];
  if (part.arrived.has(cell)) return { isSame: part.arrived.isSame(record, conversations) };
  await part.arrived.take(record, conversations);
  return null;
}

function unpacked(value: unknown): ReturnType<typeof unpackResult> {
  try {
    return unpackResult(value);
  } catch (thrown) {
    throw new RefusedResult(`a worker returned what is no result (${asError(thrown).message}).`);
  }
}

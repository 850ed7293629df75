// Measures items (files/item-parts.ts) as somebody asks for them: a worker of a queue. What they have in common stays in memory from
// one to the next. Nothing is written to disk.
import type { Phase } from "../../engine/host/index.ts";
import { loadModel } from "../../model/index.ts";
import type { ReferenceSet } from "../files/cells.ts";
import { type Item, type ItemPart, scalesOfHalf } from "../files/item-parts.ts";
import type { ScaleRecord } from "../files/ray-files.ts";
import type { SliceFacts } from "../files/slice-facts.ts";
import type { PointPlace } from "../grid.ts";
import { withKlAt } from "./kl-at.ts";
import { withKlFrom } from "./kl-from.ts";
import { expectSweepMemory, settingsThatFit } from "./memory-plan.ts";
import { drawNoise, noiseProgress } from "./noise-floor.ts";
import { scorePair } from "./pairs.ts";
import { Rays, searchScale } from "./rays.ts";
import type { Reference } from "./reference.ts";
import { prepareReference, type SweepContext, withPolicy } from "./sweep-context.ts";
import { UnderWay } from "./under-way.ts";

export interface OpenItems {
  /** Of the map of "kl-from"; null for the others. */
  readonly facts: SliceFacts | null;
  /** The own completions of the checkpoint that KL is taken from; null for the others. */
  readonly other: ReferenceSet | null;
  /** @param phase  counts items */
  measure(item: PointPlace, phase: Phase): Promise<Item>;
}

export interface ItemSources {
  readonly context: SweepContext;
  readonly reference: Reference;
  /** The folder of another checkpoint of the study, once it is found and verified. */
  checkpointAt(step: number): Promise<string>;
  /** Facts of the map of an earlier time. */
  readonly known: SliceFacts | null;
  readonly phase: Phase;
}

/** Runs `body` with what all items of a part need in memory. */
export async function withItems(
  { kind, map }: ItemPart,
  sources: ItemSources,
  body: (open: OpenItems) => Promise<void>,
): Promise<void> {
  const { context, reference, checkpointAt } = sources;
  const plain = { facts: null, other: null };
  switch (kind) {
    case "lengths":
      return body({ ...plain, measure: async () => ({ kind, lengths: await new Rays(context).lengths() }) });
    case "scales": {
      const rays = new Rays(context);
      return withKlAt(context, reference, (klAt) =>
        body({
          ...plain,
          async measure(half) {
            await rays.prepare([half.i]);
            const scales: ScaleRecord[] = [];
            for (const one of scalesOfHalf(half, context.settings.landscape)) {
              context.signal.throwIfAborted();
              scales.push(await searchScale(context, klAt, rays, reference, one, scales));
            }
            return { kind, scales };
          },
        }),
      );
    }
    case "draw":
      return withPolicy(context, (policy) =>
        body({
          ...plain,
          async measure({ j }, phase) {
            const underWay = new UnderWay(null, context.settings.landscape.rollouts.rollouts, 0, context.say);
            const progress = noiseProgress(context, reference, phase, 0);
            return { kind, draw: await drawNoise(context, policy, reference, j, underWay, progress) };
          },
        }),
      );
    case "pair":
      return body({
        ...plain,
        measure: async ({ j }) => ({ kind, pair: await scorePair(context, reference, j, await checkpointAt(j)) }),
      });
    case "kl-from":
      if (map === null) throw new Error("kl-from: no map");
      return withMap(map, sources, body);
    default:
      return kind satisfies never;
  }
}

async function withMap(
  { slice, from }: NonNullable<ItemPart["map"]>,
  { context, reference, checkpointAt, known, phase }: ItemSources,
  body: (open: OpenItems) => Promise<void>,
): Promise<void> {
  const { model, chat, environment, settings, place, signal } = context;
  const { backend } = model;
  const folder = await checkpointAt(from);
  const plan = await expectSweepMemory(backend, { config: model.config, chat, environment, settings }, signal);
  const { config, weights } = await loadModel(backend, folder, {
    forwardCopies: settings.landscape.precision === "f32",
  });
  try {
    const other = { ...context, model: { backend, config, weights }, place: { ...place, step: from } };
    const { prompts, rollouts } = settings.landscape.reference;
    const drawing = phase.phase(`step ${from}: reference`, prompts * rollouts, "completions");
    const theirs = await prepareReference(other, drawing);
    drawing.done();
    const fitting = { ...context, settings: settingsThatFit(settings, plan) };
    await withKlFrom(fitting, slice, reference, { other, reference: theirs }, known, ({ facts, klAt }) =>
      body({
        ...{ facts, other: theirs.set },
        async measure({ i, j, alpha, beta }) {
          const kl = await klAt({ i, j, alpha, beta }, []);
          return { kind: "kl-from", cell: { i, j, alpha, beta, kl } };
        },
      }),
    );
  } finally {
    weights.free();
  }
}

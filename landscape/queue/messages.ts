// What goes through the queue, and the schemas that every message is checked with before anything in it is used. A message
// holds numbers, names and texts of settings. Nothing of it is executed.
//
// Results come through the queue: handing in a result, giving up the lock and ending the job are then one step on the server,
// so a result is neither lost nor counted twice. It also needs no folder that all machines share.
import { createHash } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import { z } from "zod";
import { UserError } from "../../engine/host/index.ts";
import { cellRecord, conversationsIn, referenceSet } from "../files/cells.ts";
import { itemSchema } from "../files/item-parts.ts";
import { worstFacts } from "../files/ray-files.ts";
import { sliceFacts } from "../files/slice-facts.ts";

/** Bytes of a result in the queue (gzip, base64), and of its text. */
const mostBytes = 64 * 2 ** 20;
const mostTextBytes = 1024 * 2 ** 20;

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const name = z.string().max(200);
/** The name of a file in a model's folder: no path. */
const fileName = z
  .string()
  .max(200)
  .regex(/^\w[\w.-]*$/);
const path = z
  .string()
  .max(4096)
  .regex(/^[^\0]*$/);

/** What decides about the last bits of a result besides settings and files. */
export const planSchema = z.strictObject({ adapter: name, foothold: name, gitRevision: name.nullable(), order: name });
export type Plan = z.infer<typeof planSchema>;

const checkpointSchema = z.strictObject({
  step: z.int().min(0),
  path,
  /** On the hub; null for a folder. */
  hub: z
    .strictObject({
      name: z.string().regex(/^[\w.-]{1,100}\/[\w.-]{1,100}$/),
      commit: z.string().regex(/^[0-9a-f]{40}$/),
    })
    .nullable(),
  sha256: z.record(fileName, digest),
});
export type CheckpointMessage = z.infer<typeof checkpointSchema>;

/** A study's cells around one checkpoint are to be measured. */
export const announcementSchema = z.strictObject({
  schemaVersion: z.literal(1),
  /** The name of the queue that has the cells. */
  queue: z.string().regex(/^cells-[0-9a-f]{16}-step-\d{1,12}$/),
  step: z.int().min(0),
  /** TOML. */
  settings: z.string().max(2 ** 20),
  /** Of the one that hands out. */
  plan: planSchema,
  allowMixed: z.boolean(),
  /** Digests of the environment's files, by setting. */
  files: z.record(name, digest),
  /** Checkpoints that directions may be made from, ascending. */
  trajectory: z.array(z.int().min(0)),
  /** The folder of the optimiser's states. */
  state: path,
  checkpoints: z.array(checkpointSchema).min(1),
});
export type Announcement = z.infer<typeof announcementSchema>;

/** What the name of a part looks like (files/point-parts.ts, files/item-parts.ts). */
const partName =
  /^(slice-\d{1,9}(-kl-from-\d{1,12})?|rays|fixed-kl|fresh|worst-(kl|reward)|line-(plus|minus)-\d{1,9}|ray-lengths|scales|noise-floor|pairs)$/;

/** Neighbouring points of one map, of rays or of a line, or other items of one part, measured together. */
export const stripeSchema = z.strictObject({
  schemaVersion: z.literal(3),
  part: z.string().regex(partName),
  cells: z
    .array(
      z.strictObject({
        i: z.int().min(-1),
        j: z.int().min(0),
        /** How far from the checkpoint a point at fixed KL is; null for all others, which follow from the settings. */
        scale: z.number().nullable(),
        key: digest,
      }),
    )
    .min(1)
    .max(4096),
  /** The worker that may not measure them: it already has, and another is to check. Null for the first measurement. */
  notBy: z.uuid().nullable(),
});
export type Stripe = z.infer<typeof stripeSchema>;

/** The id is unique, the name need not be. */
export const workerSchema = z.strictObject({
  id: z.uuid(),
  name: z
    .string()
    .max(100)
    .regex(/^[\w.@:-]+$/),
});
export type WorkerName = z.infer<typeof workerSchema>;

export const progressSchema = z.strictObject({ worker: workerSchema, share: z.number().min(0).max(1) });
export type StripeProgress = z.infer<typeof progressSchema>;

const resultSchema = z.strictObject({
  schemaVersion: z.literal(2),
  worker: workerSchema,
  plan: planSchema,
  seconds: z.number().min(0),
  /** gzip, base64; of a body. */
  body: z.base64().max(mostBytes),
});
export type StripeResult = z.infer<typeof resultSchema>;

const bodySchema = z.strictObject({
  /** The checkpoint's own completions, and the slice's directions: the same for all cells of a map. Null for parts without a map. */
  reference: referenceSet,
  facts: sliceFacts.nullable(),
  /** Of a worst-case ray; null for the others. */
  worst: worstFacts.nullable(),
  /** The own completions of the checkpoint from which KL is taken; null for all but KL from another checkpoint. */
  other: referenceSet.nullable(),
  /** In place of points. */
  items: z.array(itemSchema),
  cells: z.array(
    z.strictObject({
      record: cellRecord,
      conversations: z.string().refine((text) => conversationsIn(text) !== null, "expected conversations"),
    }),
  ),
});
export type ResultBody = z.infer<typeof bodySchema>;

/** The id of a stripe's job: a digest of its cells' keys, and of who may not measure them. */
export function jobId({ cells, notBy }: Stripe): string {
  const hash = createHash("sha256");
  for (const { key } of cells) hash.update(`${key}\n`);
  return `${hash.digest("hex")}${notBy === null ? "" : "-check"}`;
}

/** @throws UserError when it is too large for the queue */
export function packResult(head: Omit<StripeResult, "schemaVersion" | "body">, body: ResultBody): StripeResult {
  const packed = gzipSync(JSON.stringify(body)).toString("base64");
  if (packed.length > mostBytes)
    throw new UserError(
      `queue: ${body.cells.length + body.items.length} cells have ${packed.length} bytes, the queue takes ${mostBytes}. Hand out fewer cells together: ` +
        "--landscape.pointsAtOnce",
    );
  return { schemaVersion: 2, ...head, body: packed };
}

/** @throws Error that says in which way it is no result */
export function unpackResult(value: unknown): { head: StripeResult; body: ResultBody } {
  const head = checked(resultSchema, value);
  const text = gunzipSync(Buffer.from(head.body, "base64"), { maxOutputLength: mostTextBytes }).toString("utf8");
  return { head, body: checked(bodySchema, JSON.parse(text)) };
}

/** @throws Error that names the first wrong value */
export function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [{ path: where, message }] = result.error.issues;
  throw new Error(`${where.join(".") || "message"}: ${message}`);
}

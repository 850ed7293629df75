// What bench/card.ts measures and writes: parts, rows, and the JSON file. Parts run in processes of their own and send
// rows as messages, so this file is what both sides agree on.
import { z } from "zod";

/** In the order in which they run: what is most worth knowing about a new card comes first. */
export const partNames = [
  "check",
  "ceilings",
  "products",
  "attention",
  "head",
  "adamw",
  "decode",
  "training",
  "landscape",
  "gpt2-medium",
  "peers",
] as const;
export type PartName = (typeof partNames)[number];

export const rowSchema = z.strictObject({
  part: z.enum(partNames),
  /** Unique within its part. */
  name: z.string(),
  /** A failed row has no number. A row is left out for want of time, memory or a feature. */
  outcome: z.enum(["measured", "failed", "left out"]),
  /** Why it failed or was left out; null if it was measured. */
  reason: z.string().nullable(),
  /** Of one run: the median over the samples. */
  milliseconds: z.number().nullable(),
  /** What measured it: the device's own timestamps, or this machine's clock. */
  clock: z.enum(["timestamps", "wall"]).nullable(),
  /** Of one run by this machine's clock, including the host's work where the device waits for it. */
  wallMilliseconds: z.number().nullable(),
  samples: z.number(),
  runsPerSample: z.number(),
  /** Of one run; 0: not counted. A multiply-add is two. */
  flops: z.number(),
  /** That one run must read or write; 0: not counted. */
  bytes: z.number(),
  /** That one run computes; 0: it is not counted in tokens. */
  tokens: z.number(),
  /** Values that were compared, in words: "192 elements in float64"; null if the row is not of results. */
  checked: z.string().nullable(),
  note: z.string().nullable(),
});
export type Row = z.infer<typeof rowSchema>;

export const adapterSchema = z.strictObject({
  name: z.string(),
  driver: z.string(),
  label: z.string(),
  /** What Dawn runs on: vulkan, metal, d3d12. */
  api: z.string(),
  features: z.array(z.string()),
  /** One per line of the table: "16×16×16 f16→f32". */
  matrixShapes: z.array(z.string()),
  subgroups: z.string(),
  maxBufferBytes: z.number(),
});
export type CardAdapter = z.infer<typeof adapterSchema>;

/** What a part's process sends. */
export type Message =
  | { kind: "adapter"; adapter: CardAdapter; isSoftware: boolean; line: string }
  | { kind: "row"; row: Row }
  | { kind: "end" };

/** Sent to a part's process as its only argument. */
export interface Order {
  part: PartName;
  sizes: "small" | "full";
  adapter: string;
  backend: "auto" | "webgpu" | "cpu";
  tune: "auto" | "on" | "off";
  /** Milliseconds that the part may take. */
  limitMs: number;
  /** For tests (FOOTHOLD_CARD_FAULT); null: none. */
  fault: Fault | null;
}

/** A planted fault: wrong values, a process that dies, or one that never ends. */
export const faults = ["wrong", "crash", "hang"] as const;
export type Fault = (typeof faults)[number];

const shareSchema = z.strictObject({
  /** 1 is the ceiling. */
  share: z.number(),
  of: z.enum(["copy", "f32 products", "f16 products"]),
});

const ceilingSchema = z.strictObject({ rate: z.number(), of: z.string() }).nullable();

export const ceilingsSchema = z.strictObject({
  /** GB/s, bytes read and bytes written; and the row that set it. null: nothing was measured. */
  copy: ceilingSchema,
  /** GFLOP/s of the fastest product with f32 operands. */
  f32: ceilingSchema,
  /** GFLOP/s of the fastest product with f16 operands. */
  f16: ceilingSchema,
});
export type CardCeilings = z.infer<typeof ceilingsSchema>;

/** A row with what follows from all rows together. */
export const ratedRowSchema = rowSchema.extend({
  gflopsPerSecond: z.number().nullable(),
  gigabytesPerSecond: z.number().nullable(),
  tokensPerSecond: z.number().nullable(),
  share: shareSchema.nullable(),
  /** The same work in PyTorch on the same card. */
  peerMilliseconds: z.number().nullable(),
});
export type RatedRow = z.infer<typeof ratedRowSchema>;

export const partReportSchema = z.strictObject({
  name: z.enum(partNames),
  /** absent: not possible here, as peers without PyTorch. cut: some rows were left out. */
  outcome: z.enum(["done", "cut", "failed", "absent"]),
  seconds: z.number(),
  /** The seconds that it was given. */
  limitSeconds: z.number(),
  /** What failed, was cut or is absent, in a sentence; null if done. */
  problem: z.string().nullable(),
});
export type PartReport = z.infer<typeof partReportSchema>;

/** The file that --out names. */
export const cardSchema = z.strictObject({
  schemaVersion: z.literal(1),
  command: z.string(),
  date: z.string(),
  node: z.string(),
  /** null outside a git checkout; "+" after the hash: files were changed since. */
  commit: z.string().nullable(),
  processors: z.number(),
  sizes: z.enum(["small", "full"]),
  minutes: z.number(),
  totalSeconds: z.number(),
  /** Whether all parts have had their turn; false while it runs, and after Ctrl-C. */
  isWhole: z.boolean(),
  adapter: adapterSchema.nullable(),
  ceilings: ceilingsSchema,
  parts: z.array(partReportSchema),
  rows: z.array(ratedRowSchema),
  /** PyTorch's version and device; null if there is none. */
  peers: z.string().nullable(),
});
export type CardReport = z.infer<typeof cardSchema>;

// The same work in PyTorch on the same card, by peers.py in a process of its own, if this machine's Python has it.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { Qwen2Model } from "../../model/index.ts";
import type { PartReport } from "./results.ts";

/** The sizes of a model as transformers names them. */
export type PeerModel = Readonly<Record<string, number | boolean>>;

export type PeerWork =
  | { kind: "product"; pass: "forward" | "input" | "weight"; precision: "f32" | "f16"; T: number; C: number; O: number }
  /** rows sequences of T queries over S keys; causal if T is S. */
  | {
      kind: "attention";
      pass: "forward" | "backward";
      rows: number;
      T: number;
      S: number;
      H: number;
      K: number;
      D: number;
    }
  | { kind: "head"; pass: "forward" | "backward" | "KL"; T: number; C: number; V: number }
  | { kind: "adamw"; shapes: readonly (readonly number[])[] }
  | {
      kind: "decode";
      precision: "f32" | "mixed";
      model: PeerModel;
      rows: number;
      promptTokens: number;
      newTokens: number;
    }
  | { kind: "training"; precision: "f32" | "mixed"; model: PeerModel; sequences: number; tokens: number };

export interface PeerCase {
  name: string;
  work: PeerWork;
}

export function peerModel(config: Qwen2Model): PeerModel {
  return {
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
  };
}

const answerSchema = z.union([
  z.strictObject({ torch: z.string() }),
  z.strictObject({ absent: z.string() }),
  z.strictObject({ name: z.string(), milliseconds: z.number().positive() }),
  z.strictObject({ name: z.string(), problem: z.string() }),
  z.strictObject({ left: z.number() }),
]);

export interface PeerRun {
  report: PartReport;
  /** PyTorch's version and device; null if there is none. */
  description: string | null;
  /** By the name of the case. */
  milliseconds: ReadonlyMap<string, number>;
}

/**
 * @param onProcessor  whether PyTorch may compute on the processor: beside a software driver it does, beside a GPU never
 */
export async function runPeers(
  cases: readonly PeerCase[],
  limitMs: number,
  onProcessor: boolean,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<PeerRun> {
  const begun = performance.now();
  const milliseconds = new Map<string, number>();
  const problems: string[] = [];
  let description: string | null = null;
  let absent: string | null = null;
  let wasStopped = false;
  const said: string[] = [];
  const python = process.platform === "win32" ? "python" : "python3";
  const child = spawn(python, [fileURLToPath(new URL("./peers.py", import.meta.url))]);
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said.push(...text.split("\n").filter((line) => line.trim() !== ""));
    said.splice(0, said.length - 2);
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const parsed = answerSchema.safeParse(parse(line));
    if (!parsed.success) return; // Libraries print there too.
    const answer = parsed.data;
    if ("torch" in answer) description = answer.torch;
    else if ("absent" in answer) absent = answer.absent;
    else if ("left" in answer) problems.push(`${answer.left} cases were left out: the time was used up`);
    else if ("problem" in answer) problems.push(`${answer.name}: ${answer.problem}`);
    else milliseconds.set(answer.name, answer.milliseconds);
    if ("name" in answer)
      progress(`${answer.name}: ${"problem" in answer ? answer.problem : `${answer.milliseconds.toPrecision(3)} ms`}`);
  });
  const stop = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop);
  const timer = setTimeout(() => {
    wasStopped = true;
    stop();
  }, limitMs);
  child.stdin.on("error", () => {}); // It ended before it read.
  // Python stops by itself a little earlier.
  child.stdin.end(JSON.stringify({ cases, limitSeconds: (0.9 * limitMs) / 1000, onProcessor }));
  const ended = await new Promise<string | null>((resolve) => {
    child.on("error", (error) => {
      absent = `${python} does not start: ${error.message}`;
      resolve(null);
    });
    child.on("close", (code, how) => resolve(code === 0 ? null : `it ended with ${how ?? `exit code ${code}`}`));
  });
  clearTimeout(timer);
  signal.removeEventListener("abort", stop);
  if (wasStopped) problems.push(`it was stopped after ${(limitMs / 1000).toFixed(0)} s`);
  else if (ended !== null) problems.push(`${ended}: ${said.join(" / ")}`);
  const isCut = wasStopped || problems.some((one) => one.includes("left out"));
  const outcome = absent !== null ? "absent" : problems.length === 0 ? "done" : isCut ? "cut" : "failed";
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  const report: PartReport = {
    ...{ name: "peers", outcome, seconds: (performance.now() - begun) / 1000, limitSeconds: limitMs / 1000 },
    problem: absent ?? (problems.length === 0 ? null : `${problems[0]}${more}`),
  };
  return { report, description, milliseconds };
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

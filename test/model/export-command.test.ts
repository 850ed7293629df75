// node model/export.ts as a user runs it: every dtype and cut gives the weights that its source holds, rounded as the known
// folders are; and what is wrong is one message with exit code 2.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { bytesOfSize } from "../../model/export.ts";
import { openCheckpoint } from "../../model/index.ts";
import { describe, fixturePath } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

function run(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ["model/export.ts", ...words], { cwd: root, encoding: "utf8" });
}

async function weightsOf(folder: string): Promise<Map<string, { dtype: string; data: Float32Array }>> {
  const checkpoint = await openCheckpoint(folder);
  const weights = new Map<string, { dtype: string; data: Float32Array }>();
  for (const name of checkpoint.shapes.keys()) weights.set(name, await checkpoint.tensor(name));
  await checkpoint.close();
  return weights;
}

describe("model/export-command", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-export-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));
  let folders = 0;
  /** Exports, and gives the folder written. */
  const exported = (source: string, ...words: string[]): string => {
    const out = join(place, `out-${folders++}`);
    const { status, stdout, stderr } = run("--model", source, "--out", out, ...words);
    assert.is(status, 0, stderr);
    assert.is(stdout, "");
    return out;
  };

  test("bf16 and f16 are the known roundings, f32 and what is stored lose nothing", async () => {
    const source = fixturePath("qwen2-tiny");
    for (const [dtype, reference] of [
      ["bf16", "qwen2-tiny-bf16-sharded"],
      ["f16", "qwen2-tiny-bare-f16"],
    ] as const) {
      const known = await weightsOf(fixturePath(reference));
      assert.equal(await weightsOf(exported(source, "--dtype", dtype)), known);
      assert.equal(await weightsOf(exported(fixturePath(reference))), known, "as stored");
    }
    const untied = fixturePath("qwen2-untied-odd");
    for (const words of [[], ["--dtype", "f32"]])
      assert.equal(await weightsOf(exported(untied, ...words)), await weightsOf(untied));
  });

  test("shards hold what the one file holds; every file of the tokenizer is carried over byte for byte", async () => {
    const source = fixturePath("tiny-warm-start");
    const bytes = readFileSync(join(source, "model.safetensors")).length;
    const out = exported(source, "--shard-size", `${Math.ceil(bytes / 3)}B`);
    const shards = readdirSync(out).filter((name) => name.endsWith(".safetensors"));
    assert.ok(shards.length >= 3, shards.join());
    for (const name of shards) assert.ok(readFileSync(join(out, name)).length < bytes / 2, name);
    assert.ok(readdirSync(out).includes("model.safetensors.index.json"));
    assert.equal(await weightsOf(out), await weightsOf(source));
    for (const name of ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
      assert.ok(readFileSync(join(out, name)).equals(readFileSync(join(source, name))), name);
  });

  test("sizes as transformers takes them", () => {
    for (const [size, bytes] of [
      ["1B", 1],
      ["120KB", 120_000],
      ["1.5GB", 1_500_000_000],
      ["500 mb", 500_000_000],
      ["2GiB", 2 ** 31],
      ["1KiB", 1024],
    ] as const)
      assert.is(bytesOfSize(size), bytes, size);
    for (const size of ["", "5", "GB", "-1GB", "1TB", "1e3MB", "5GBs"])
      assert.ok(Number.isNaN(bytesOfSize(size)), size);
  });

  test("what is wrong is one message with exit code 2, and nothing is written", () => {
    const model = ["--model", fixturePath("qwen2-tiny")];
    const out = ["--out", join(place, "never")];
    for (const [words, text] of [
      [model, "out is missing"],
      [out, "model is missing"],
      [[...model, "--out", place], "exists already"],
      [[...model, ...out, "--shard-size", "5"], "expected a size such as 500MB"],
      [[...model, ...out, "--shard-size", "0B"], "at least one byte"],
      [[...model, ...out, "--dtype", "int8"], "dtype"],
      [["--model", join(place, "nowhere"), ...out], "nowhere"],
    ] as const) {
      const { status, stdout, stderr } = run(...words);
      assert.is(status, 2, stderr);
      assert.is(stdout, "");
      assert.ok(stderr.includes(text), `${JSON.stringify(text)} in ${stderr}`);
      assert.is(stderr.match(/^\w*Error: /gm)?.length, 1, stderr);
      assert.not.match(stderr, /^ {4}at /m);
    }
    assert.not(readdirSync(place).includes("never"));
  });
});

// How much memory loading takes beside what is allocated on the device: measured in a process of its own, on a made-up
// checkpoint of more than a gigabyte, so that a tensor or a file held whole could not go unseen.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { parseConfig, qwen2ParameterShapes } from "../../model/config.ts";
import { writeSafetensors } from "../../model/safetensors.ts";
import { describe } from "../support.ts";

// Two large tensors of which only the head has a copy for the forward product: SwiftShader has room for 2 GiB in all, and
// not for a buffer of one.
const configJson = {
  model_type: "qwen2",
  vocab_size: 100_000,
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 4,
  num_attention_heads: 16,
  num_key_value_heads: 4,
  max_position_embeddings: 1024,
  tie_word_embeddings: false,
  rope_theta: 1e6,
};

/** Prints how far resident memory rose above what was there before and what the device has, bytes. */
const load = (folder: string) => `
  import { readFileSync } from "node:fs";
  const { openBackend } = await import(${JSON.stringify(new URL("../../engine/index.ts", import.meta.url).href)});
  const { loadModel } = await import(${JSON.stringify(new URL("../../model/weights.ts", import.meta.url).href)});
  const field = (name) => 1024 * Number(new RegExp(name + ":\\\\s+(\\\\d+)").exec(readFileSync("/proc/self/status", "utf8"))[1]);
  const { backend } = await openBackend({ maxBufferBytes: 2 ** 28 });
  const before = field("VmRSS");
  const { weights } = await loadModel(backend, ${JSON.stringify(folder)});
  await backend.idle();
  const device = backend.statistics().liveBytes;
  console.log(JSON.stringify({ rise: field("VmHWM") - before - device, device, adapter: backend.description }));
  process.exit(0);`;

describe("model/weights: memory", (test) => {
  if (process.platform !== "linux") {
    test.skip("loading", "peak resident memory is read from /proc, which is Linux's");
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "foothold-memory-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));

  for (const dtype of ["f32", "bf16"] as const)
    test(`loading ${dtype} takes at most the largest tensor and 256 MiB beside the device's`, async () => {
      const shapes = [...qwen2ParameterShapes(parseConfig(configJson, "config.json"))];
      writeFileSync(join(folder, "config.json"), JSON.stringify(configJson));
      await writeSafetensors(
        join(folder, "model.safetensors"),
        shapes.map(([name, shape]) => {
          const data = () => new Float32Array(shape.reduce((a, b) => a * b)).fill(0.25);
          return { name, dtype, shape, data };
        }),
      );
      const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", load(folder)], {
        encoding: "utf8",
      });
      if (status !== 0) throw new Error(`loading ended with ${status}: ${stderr}`);
      const { rise, device, adapter }: { rise: number; device: number; adapter: string } = JSON.parse(stdout);
      const elements = shapes.map(([, shape]) => shape.reduce((a, b) => a * b));
      const bytes = dtype === "f32" ? 4 : 2;
      const largest = Math.max(...elements) * bytes;
      const mib = (n: number) => `${Math.round(n / 2 ** 20)} MiB`;
      console.log(
        `\n  ${dtype}: file ${mib(elements.reduce((a, b) => a + b) * bytes)}, largest tensor ${mib(largest)}, device ` +
          `${mib(device)}, beside it at most ${mib(rise)} (${adapter})`,
      );
      assert.ok(rise < largest + 256 * 2 ** 20, `${mib(rise)} beside the device's ${mib(device)}`);
      // Were the device's memory not resident, the difference would say nothing.
      assert.ok(rise > 0, `${mib(rise)}: the device's memory is not part of this process`);
    });
});

// Kept checkpoints name what training stopped at, so that other programs that load them stop there too.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { loadChat, loadModel, loadTokenizer, openConfig } from "../../model/index.ts";
import { checkpointFolder, expectSound, keepCheckpoint } from "../../rl/kept-checkpoints.ts";
import { stopIdsOf } from "../../rl/rollout.ts";
import { describe, fixturePath } from "../support.ts";

const [endOfText, endOfTurn] = [256, 258];

describe("rl/kept-checkpoints: end tokens", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-kept-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  /** The tiny model as its folder would be if its files named these end tokens. */
  function modelNaming(name: string, generationConfig: object | null, configEos: number): string {
    const folder = join(place, name);
    cpSync(fixturePath("tiny-warm-start"), folder, { recursive: true });
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, eos_token_id: configEos }));
    rmSync(join(folder, "generation_config.json"));
    if (generationConfig !== null)
      writeFileSync(join(folder, "generation_config.json"), JSON.stringify(generationConfig));
    return folder;
  }

  async function keep(modelFolder: string): Promise<string> {
    const { config, weights } = await loadModel(new CpuBackend(), modelFolder);
    const chat = await loadChat(modelFolder, await loadTokenizer(modelFolder));
    const run = `${modelFolder}-run`;
    await keepCheckpoint(run, 3, weights, modelFolder, stopIdsOf({ config }, chat));
    expectSound(run, 3);
    return checkpointFolder(run, 3);
  }

  test("a base model's end token is joined by the chat template's", async () => {
    for (const [name, before, expected] of [
      ["none", null, { eos_token_id: [endOfTurn, endOfText] }],
      [
        "some",
        { do_sample: true, eos_token_id: endOfText, top_k: 20 },
        { do_sample: true, eos_token_id: [endOfTurn, endOfText], top_k: 20 },
      ],
    ] as const) {
      const kept = await keep(modelNaming(name, before, endOfText));
      assert.equal(JSON.parse(readFileSync(join(kept, "generation_config.json"), "utf8")), expected);
      assert.equal((await openConfig(kept)).config.eosTokenIds, [endOfTurn, endOfText]);
    }
  });

  test("files that name the same tokens stay as they are, to the byte", async () => {
    const same = modelNaming("same", { eos_token_id: [endOfText, endOfTurn], odd: "  " }, endOfText);
    const file = "generation_config.json";
    assert.is(readFileSync(join(await keep(same), file), "utf8"), readFileSync(join(same, file), "utf8"));
    const absent = await keep(modelNaming("absent", null, endOfTurn));
    assert.not(existsSync(join(absent, file)));
  });
});

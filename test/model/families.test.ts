// A family of models from outside the program, as docs/extending/model-family.md says: the page's files are written into an
// empty folder and run as printed.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as assert from "uvu/assert";
import { CheckpointError } from "../../engine/host/index.ts";
import { head, type ParameterArena, scopeAsync } from "../../engine/index.ts";
import { makeSlice } from "../../landscape/measure/directions.ts";
import { PerturbedWeights } from "../../landscape/measure/perturbed-weights.ts";
import { RoundedWeights } from "../../landscape/measure/rounded-weights.ts";
import {
  answerStates,
  generate,
  headWeight,
  initialise,
  makeWeights,
  openLanguageModel,
  parseConfig,
  registerModelFamily,
  score,
} from "../../model/index.ts";
import { qwen2 } from "../../model/qwen2.ts";
import { supervisedStep } from "../../rl/learn.ts";
import { testBackends } from "../backends.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const page = readFileSync(join(root, "docs/extending/model-family.md"), "utf8");
const adapter = process.env["FOOTHOLD_ADAPTER"] ?? "auto";

describe("model/families", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-family-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  // The clone that the page's files lie beside is this one.
  for (const [, name, text] of page.matchAll(/^`([\w.-]+)`:\n\n```\w+\n([\s\S]*?)^```$/gm))
    writeFileSync(join(place, name), text.replaceAll('"./foothold/', `"${root}`));

  function run(line: string): string {
    const words = line.replace("foothold/", root).split(" ").slice(1);
    const { status, stdout, stderr } = spawnSync(process.execPath, words, {
      cwd: place,
      encoding: "utf8",
      env: { ...process.env, FOOTHOLD_ADAPTER: adapter },
    });
    if (status !== 0) throw new Error(`${line}: exit code ${status}: ${stderr}`);
    return stdout;
  }

  test("another family from outside: made, generated from and scored by the commands, and checked to the bit", () => {
    const [shell] = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, text]) => text.trim().split("\n"));
    assert.is(shell.length, 3);
    const [, generated, scored] = shell.map(run);
    const { completions } = JSON.parse(generated) as { completions: { tokens: number[]; logProbs: number[] }[] };
    assert.is(completions.length, 2);
    for (const { tokens, logProbs } of completions) {
      assert.ok(tokens.length > 0 && tokens.length <= 12);
      for (const value of logProbs) assert.ok(value < 0, "a random model is sure of nothing");
    }
    const { sequences, meanNll } = JSON.parse(scored) as { sequences: { tokens: number[] }[]; meanNll: number };
    assert.equal(
      sequences.map(({ tokens }) => tokens),
      [
        [5, 9, 13, 2],
        [7, 7],
      ],
    );
    assert.ok(Math.abs(meanNll - Math.log(64)) < 2, `near the entropy of 64 equal tokens: ${meanNll}`);
    assert.match(run("node check.ts"), /^\d+ \+ \d+ \+ \d+ tokens: sampler and scorer agree to the bit\n$/);
    const written = JSON.parse(readFileSync(join(place, "random-gpt/config.json"), "utf8"));
    assert.equal(written.architectures, ["TinyGptForCausalLM"]);
  });

  // In this process: the page's file registers the family here too.
  test("another family from outside: trained, and perturbed as in a sweep", async () => {
    await import(pathToFileURL(join(place, "tiny-gpt.ts")).href);
    const path = join(place, "config.json");
    const config = openLanguageModel(JSON.parse(readFileSync(path, "utf8")), path);
    const examples = [
      [5, 9, 13, 2, 5, 9, 13, 2, 5],
      [7, 7, 30, 7],
    ].map((ids) => ({ ids, tokenWeight: 1 / 11 }));
    const optimiser = {
      learningRate: 1e-2,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0,
      maxGradientNorm: 1,
    };
    for (const { name, backend } of (await testBackends()).slice(0, 2)) {
      const trained = async (recomputeLayers: boolean): Promise<{ losses: number[]; weights: ParameterArena }> => {
        const weights = makeWeights(backend, config, { trainable: true });
        initialise(weights, config, 1);
        const losses: number[] = [];
        for (let step = 1; step <= 12; step++) {
          const settings = { optimiser, maxTokens: 64, step, recomputeLayers };
          losses.push((await supervisedStep({ backend, config, weights }, examples, settings)).loss);
        }
        return { losses, weights };
      };
      const { losses, weights } = await trained(false);
      assert.ok(losses[0] > 3.5 && losses[11] < 0.6 * losses[0], `${name}: ${losses.map((loss) => loss.toFixed(2))}`);
      const again = await trained(true);
      assert.equal(again.losses, losses, `${name}: layers that run again change no bit`);
      again.weights.free();

      const plain = await score({ backend, config, weights }, examples, { temperature: 1, maxTokens: 64 });
      const slots = new PerturbedWeights(weights, 2);
      const cells = [0, 0.1].map((alpha, i) => ({ i, j: 0, alpha, beta: 0, squaredSteps: i }));
      slots.place(cells, await makeSlice(weights, 1, 0));
      const at = async (point: number): Promise<number[]> =>
        scopeAsync(async () => {
          const { hidden, targets, rows } = answerStates({ backend, config, weights: slots }, examples, point);
          return [
            ...(await head(hidden, headWeight(config, slots), targets, { temperature: 1 }, rows).logProbs.read()),
          ];
        });
      const expected = plain.flatMap(({ logProbs }) => [...logProbs]);
      assert.equal(await at(0), expected, `${name}: at the origin to the bit`);
      assert.not.equal(await at(1), expected, `${name}: elsewhere not`);
      slots.free();

      const rounded = new RoundedWeights(weights);
      const half = { backend, config, weights: rounded };
      const said: { ids: number[]; mask: number[]; logProbs: number[] }[] = [];
      const dialogues = [
        [5, 9, 13, 2],
        [7, 7],
        [5, 9, 13],
      ].map((prompt, i) => ({
        ...{ policy: 0, prompt, noise: { rollout: i, prompt: 0 }, expectedTokens: 5 },
        answered: ({ ids, logProbs }: { ids: readonly number[]; logProbs: readonly number[] }) => {
          said[i] = {
            ids: [...prompt, ...ids],
            mask: [...prompt.map(() => 0), ...ids.map(() => 1)],
            logProbs: [...logProbs],
          };
          return null;
        },
      }));
      const sizes = { temperature: 1, maxRows: 2, maxTokens: 64 };
      await generate(half, dialogues, { ...sizes, maxNewTokens: 5, noiseKey: [1, 2], stopIds: [] });
      const scored = await score(half, said, sizes);
      assert.equal(
        scored.map(({ logProbs }) => [...logProbs]),
        said.map(({ logProbs }) => logProbs),
        `${name}: in f16 the scorer has the sampler's bits`,
      );
      rounded.free();
      weights.free();
    }
  });

  test("without the registration the folder is refused by name", () =>
    throwsMessage(
      () => openLanguageModel({ model_type: "other" }, "folder/config.json"),
      'folder/config.json: model_type: expected "qwen2" or "tiny-gpt" or "llama", got "other"',
    ).then((error) => assert.instance(error, CheckpointError)));

  test("what is no configuration is refused; a registration may be repeated, a name may not", async () => {
    for (const nothing of [null, 7, [], {}, { model_type: 3 }])
      await throwsMessage(() => openLanguageModel(nothing, "config.json"), 'config.json: model_type: expected "qwen2"');
    registerModelFamily(qwen2);
    await throwsMessage(() => registerModelFamily({ ...qwen2 }), '"qwen2" exists already');
  });

  test("a copy with other facts is a model of these", () => {
    const path = fixturePath("qwen2-tiny/config.json");
    const json: object = JSON.parse(readFileSync(path, "utf8"));
    const model = openLanguageModel(json, path);
    assert.is(
      model.headName(),
      parseConfig(json, path).tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight",
    );
    for (const [tieWordEmbeddings, head] of [
      [true, "model.embed_tokens.weight"],
      [false, "lm_head.weight"],
    ] as const) {
      const copy = { ...model, tieWordEmbeddings };
      assert.is(copy.headName(), head);
      assert.is(copy.parameters().has("lm_head.weight"), !tieWordEmbeddings);
    }
  });
});

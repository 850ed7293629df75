// The user's turn as a promise: the same conversations as from a function that answers at once, whatever order they arrive in. One
// that never comes fails at the time limit, and costs its rollout only.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { equal, is, match, ok, unreachable } from "uvu/assert";
import { CpuBackend } from "../../../engine/index.ts";
import { loadChat, loadModel, loadTokenizer } from "../../../model/index.ts";
import { type Episode, type RolloutSettings, rollOut } from "../../../rl/index.ts";
import { root, start } from "../../landscape/tiny-study.ts";
import { describe, fixturePath } from "../../support.ts";

type Turn = NonNullable<Episode["nextUserTurn"]>;

const reply = (messages: Parameters<Turn>[0]): string | null =>
  messages.length >= 5 ? null : `Again, without ${messages.at(-1)?.content.slice(0, 3)}.`;

describe("rl/environments/promised-turns", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-turns-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  const draw = async (nextUserTurn: (index: number) => Turn, settings: Partial<RolloutSettings> = {}) => {
    const backend = new CpuBackend();
    const folder = fixturePath("tiny-warm-start");
    const { config, weights } = await loadModel(backend, folder);
    const chat = await loadChat(folder, await loadTokenizer(folder));
    const requests = Array.from({ length: 6 }, (_, index) => ({
      rollout: 0,
      episode: {
        ...{ index, prompt: `Sort these names: Ada ${index}, Bo ${index}`, turns: 3 },
        nextUserTurn: nextUserTurn(index),
        score: (completions: readonly string[]) => completions.length,
      },
    }));
    const calls = { passes: 0, finished: 0 };
    const rollouts = await rollOut({ backend, config, weights }, chat, requests, {
      ...{ maxNewTokens: 6, temperature: 1, seed: 1, purpose: "evaluate", step: 0 },
      ...{ turn2Template: "standard", maxRows: 3, maxTokens: 4096 },
      onPass: ({ finished }) => {
        calls.passes++;
        calls.finished += finished;
      },
      ...settings,
    }).finally(() => weights.free());
    return { rollouts, calls };
  };

  test("from a timer, in an order of its own: the same conversations, to the bit", async () => {
    const plain = await draw(() => reply);
    ok(
      plain.rollouts.every(({ messages }) => messages.length === 6),
      "three turns each",
    );
    is(plain.calls.finished, 6);
    for (const turn of [
      (index: number): Turn =>
        (messages) =>
          setTimeout((7 * index) % 5, reply(messages)),
      (): Turn => async (messages) => reply(messages),
    ]) {
      const promised = await draw(turn);
      equal(promised.rollouts, plain.rollouts);
      is(promised.calls.finished, 6);
    }
  });

  test("turns far longer than the prompt, which nobody could expect, grow the cache and change nothing", async () => {
    const long = (messages: Parameters<Turn>[0]): string | null =>
      messages.length >= 3 ? null : `Again: ${"Ada Bo ".repeat(90)}`;
    const plain = await draw(() => long);
    const expected = plain.rollouts[0].ids.length;
    ok(expected > 3 * 110, `longer than what three rows are expected to have, got ${expected}`);
    equal((await draw(() => async (messages) => long(messages))).rollouts, plain.rollouts);
  });

  test("one that hangs or fails costs its rollout; its signal is aborted at the limit", async () => {
    let stopped = 0;
    const hanging: Turn = (_, signal) => {
      signal?.addEventListener("abort", () => stopped++);
      return new Promise(() => {});
    };
    const turns: Turn[] = [
      hanging,
      async () => {
        throw new Error("no server");
      },
      async () => JSON.parse("7"),
    ];
    const limits = { timeLimit: 0.1, maxFailedShare: 0.9, parallelScores: 4 };
    const { rollouts } = await draw((index) => turns[index] ?? reply, { limits });
    equal(
      rollouts.map(({ failure }) => failure),
      [
        "nextUserTurn: not done after 0.1 s (environment.timeLimit)",
        "no server",
        "nextUserTurn: expected a text or null, got 7",
        ...[null, null, null],
      ],
    );
    ok(stopped > 0);
    equal(
      rollouts.map(({ reward }) => reward),
      [0, 0, 0, 3, 3, 3],
    );
  });

  test("a turn after the last answer that the episode asks for costs its rollout; one that changes messages changes nothing", async () => {
    const tampering: Turn = (messages) => {
      const next = reply(messages);
      for (const message of messages) Object.assign(message, { content: "changed" });
      (messages as unknown[]).length = 0;
      return next;
    };
    const turns: Turn[] = [() => "again", async () => "again", tampering];
    const { rollouts } = await draw((index) => turns[index] ?? reply, {
      limits: { timeLimit: 10, maxFailedShare: 0.9, parallelScores: 4 },
    });
    const endless = 'nextUserTurn: expected null after answer 3, since the episode has turns 3, got the text "again". ';
    equal(
      rollouts.map(({ failure }) => failure?.slice(0, endless.length) ?? null),
      [endless, endless, null, null, null, null],
    );
    equal(rollouts[2], (await draw(() => reply)).rollouts[2]);
  });

  test("Ctrl-C does not wait for a turn", async () => {
    const stop = new AbortController();
    const never: Turn = () => {
      globalThis.setTimeout(() => stop.abort(new Error("stopped")), 20);
      return new Promise(() => {});
    };
    try {
      await draw(() => never, { signal: stop.signal });
      unreachable("it should stop");
    } catch (thrown) {
      is((thrown as Error).message, "stopped");
    }
  });

  test("a user's module whose turns come from a timer; those that hang are counted", async () => {
    writeFileSync(
      join(place, "promised.js"),
      `import { registerEnvironment } from "foothold/rl";
registerEnvironment({
  name: "promised",
  settings: {},
  open: () => ({
    name: "promised",
    episodes: () => Array.from({ length: 6 }, (_, index) => ({
      index,
      prompt: "Say something about number " + index + ".",
      turns: 2,
      nextUserTurn: (messages) =>
        new Promise((done) => index !== 4 && setTimeout(done, 5, messages.length > 2 ? null : "And now about " + index + "?")),
      score: (completions) => completions.length,
    })),
  }),
});
`,
    );
    const out = join(place, "out");
    const { status, stdout, stderr } = await start(
      [
        ...[
          join(root, "rl/evaluate.ts"),
          "tiny",
          "--environment.module",
          "promised.js",
          "--environment.name",
          "promised",
        ],
        ...["--environment.timeLimit", "0.3", "--evaluate.episodes", "6", "--train.maxNewTokens", "6", "--out", out],
      ],
      {},
      place,
    ).ended;
    is(status, 0, stderr);
    match(stdout, "Rollouts in which the environment failed, left out of the means: 1");
    const lines = gunzipSync(readFileSync(join(out, "conversations.jsonl.gz")))
      .toString()
      .trim()
      .split("\n");
    const rollouts = lines.map((line) => JSON.parse(line));
    equal(
      rollouts.map(({ failure, messages }) => [failure, messages.length]),
      [0, 1, 2, 3, 4, 5].map((index) =>
        index === 4 ? ["nextUserTurn: not done after 0.3 s (environment.timeLimit)", 2] : [null, 4],
      ),
    );
    is(rollouts[3].messages[2].content, "And now about 3?");
  });
});

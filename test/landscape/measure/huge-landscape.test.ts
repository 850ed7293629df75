// A landscape of very many prompts: it is refused with a sentence before anything is written, or it starts; and a signal is
// heard while it is planned.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { expectHostMemory, hostMemoryOf } from "../../../landscape/measure/host-memory.ts";
import { boundsAtPoints, surveyPrompts } from "../../../landscape/measure/prompt-survey.ts";
import { UnderWay } from "../../../landscape/measure/under-way.ts";
import { boundsOf, loadChat, loadTokenizer } from "../../../model/index.ts";
import { EpisodeList, episodeList, expectedTokensOf, openEnvironment, openingOf } from "../../../rl/index.ts";
import { describe, fixturePath, throwsMessage } from "../../support.ts";
import { settingsOf } from "../study-settings.ts";
import { start, studyCommand, until } from "../tiny-study.ts";

const surveyed = {
  prompts: 2,
  expectedTokens: { largest: 60, sum: 100 },
  promptTokens: 40,
  longest: [],
  first: [],
};
const sets = { reference: surveyed, rollouts: surveyed };

/** Processor time of all threads of a process, as Linux tells it; 0 once it has ended. */
function processorSeconds(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}

const isLinux = process.platform === "linux";

describe("landscape/measure/huge-landscape", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-huge-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  test("too many prompts for Node's heap: one sentence with the parts, a setting that makes it fit, and Node's option", async () => {
    const settings = settingsOf({
      "landscape.rollouts.prompts": 200_000,
      "landscape.rollouts.rollouts": 1,
      "landscape.points": 7,
      "landscape.reference.prompts": 32,
    });
    const heap = 4 * 2 ** 30;
    await throwsMessage(
      () => expectHostMemory(settings, sets, 64, heap),
      "The landscape needs about 4.2 GiB of Node's own memory (grid points 3.5 GiB, prompts ",
      "Node may use 3.2 GiB for it. Try --landscape.rollouts.prompts 150000; or give Node more",
      "NODE_OPTIONS=--max-old-space-size=5632 (MiB). Nothing was trained or written.",
    );
    // The advice holds, and it is not far too low.
    const prompts = (count: number) => ({
      ...settings,
      landscape: { ...settings.landscape, rollouts: { prompts: count, rollouts: 1 } },
    });
    expectHostMemory(prompts(150_000), sets, 64, heap);
    await throwsMessage(() => expectHostMemory(prompts(160_000), sets, 64, heap), "Node's own memory");
    expectHostMemory(settings, sets, 64, 5632 * 2 ** 20);
    assert.ok(hostMemoryOf(settings, sets, 64).outside > 8 * 200_000 * 3 * 8, "the eight points under way");
  });

  test("both sets of prompts too large: both are named", async () => {
    const settings = settingsOf({
      "landscape.rollouts.prompts": 400_000,
      "landscape.reference.prompts": 400_000,
      "landscape.points": 7,
    });
    try {
      expectHostMemory(settings, sets, 64, 2 ** 30);
      assert.unreachable();
    } catch (thrown) {
      assert.match(String(thrown), /Try --landscape\.rollouts\.prompts (\d+) --landscape\.reference\.prompts \1;/);
    }
  });

  test("the command refuses before it writes", async () => {
    const out = join(place, "refused");
    const { status, stderr } = await start(
      studyCommand(out, { "landscape.rollouts.prompts": "20000", "landscape.points": "21" }),
      { NODE_OPTIONS: "--max-old-space-size=300" },
    ).ended;
    assert.is(status, 2, stderr);
    assert.match(stderr, /^OutOfMemoryError: The landscape needs about .* Nothing was trained or written\.$/m);
    assert.not.match(stderr, /^ {4}at /m);
    assert.not.ok(existsSync(out));
  });

  for (const [when, wait, prompts] of [
    // What it says before it makes them.
    ["while it makes the prompts", "The settings' notes", "150000"],
    ["while it looks at them", "Adapter:", "40000"],
  ] as const) {
    const name = `kill is heard within a second ${when}`;
    if (!isLinux) {
      test.skip(name, "only Linux has the processor time of another process in /proc");
      continue;
    }
    test(name, async () => {
      const out = join(place, `stopped-${prompts}`);
      const started = start(studyCommand(out, { "landscape.rollouts.prompts": prompts, "landscape.points": "3" }));
      const pid = started.child.pid ?? 0;
      let text = "";
      started.child.stderr?.on("data", (more: string) => {
        text += more;
      });
      await until(`it said ${wait}`, started, () => text.includes(wait));
      // All times are the command's own processor time: other work on the machine adds nothing to it.
      const begun = processorSeconds(pid);
      await until("it was at work", started, () => processorSeconds(pid) > begun + 0.6);
      const sent = processorSeconds(pid);
      let last = sent;
      const watch = setInterval(() => {
        last = Math.max(last, processorSeconds(pid));
      }, 5);
      started.child.kill("SIGTERM");
      const { status, stderr } = await started.ended;
      clearInterval(watch);
      assert.is(status, 130, stderr);
      assert.ok(last - sent < 1.5, `${last - sent} s`);
      assert.match(stderr, /^Stopped while .* This command has changed nothing\.$/m);
      assert.not.ok(existsSync(out));
    });
  }

  test("a list of episodes that is made with pauses is the same list, and stops at once", async () => {
    const environment = await openEnvironment(settingsOf({}).environment);
    const never = new AbortController().signal;
    const list = episodeList(environment, 5);
    await list.makeDistinct(1000, never);
    const texts = (of: EpisodeList): string[] => of.distinct(1000).map(({ prompt }) => prompt);
    assert.equal(texts(list), texts(new EpisodeList(environment, 5)));
    assert.is(episodeList(environment, 5), list);
    const stopped = new AbortController();
    setTimeout(() => stopped.abort(new Error("stopped")), 100);
    const begun = process.cpuUsage();
    await throwsMessage(() => new EpisodeList(environment, 6).makeDistinct(1_000_000, stopped.signal), "stopped");
    const { user, system } = process.cpuUsage(begun);
    assert.ok(user + system < 1_100_000, `${user + system} µs`);
  });

  test("the bounds from a survey are those of all rollouts at all points", async () => {
    const folder = fixturePath("tiny-warm-start");
    const chat = await loadChat(folder, await loadTokenizer(folder));
    const environment = await openEnvironment(settingsOf({}).environment);
    const episodes = new EpisodeList(environment, 9).distinct(40);
    for (const [rows, points, perPrompt] of [
      [7, 3, 2],
      [64, 5, 1],
      [500, 4, 3],
      [1, 1, 1],
    ]) {
      const survey = await surveyPrompts(chat, episodes, { maxNewTokens: 6, maxRows: rows, maxTokens: 100 });
      const all = Array.from({ length: points }, (_, policy) =>
        episodes.flatMap((episode) =>
          Array.from({ length: perPrompt }, () => ({
            policy,
            prompt: openingOf(episode, chat).prompt,
            expectedTokens: expectedTokensOf(episode, chat, 6),
          })),
        ),
      ).flat();
      assert.equal(boundsAtPoints(survey, perPrompt, points, rows), boundsOf(all, rows));
    }
  });

  test("finished rollouts are found by their key alone, and counted once", () => {
    const underWay = new UnderWay(join(place, "none.jsonl"), 4, Number.POSITIVE_INFINITY, console.error);
    const measured = {
      reward: 0.5,
      tokens: 3,
      entropy: 0.1,
      isTruncated: true,
      formatFailed: false,
      conversation: null,
    };
    const key = { i: 0, j: 1, prompt: 249_999, rollout: 3 };
    underWay.add(key, measured);
    assert.equal(underWay.find(key), measured);
    assert.is(underWay.find({ ...key, rollout: 2 }), undefined);
    assert.is(underWay.find({ ...key, i: 1 }), undefined);
    assert.equal([underWay.length, underWay.lengthAt(key), underWay.lengthAt({ i: 1, j: 1 })], [1, 1, 0]);
    underWay.add(key, { ...measured, reward: 1 });
    assert.is(underWay.length, 1);
    underWay.clear();
    assert.is(underWay.find(key), undefined);
  });
});

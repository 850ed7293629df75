// A scorer as a program: verdicts in any order, and every way in which it can fail.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, match, ok } from "uvu/assert";
import { ScorerProcess } from "../../../rl/environments/scorer-process.ts";
import { verdictOf, weightedScore } from "../../../rl/index.ts";
import { describe, throwsMessage } from "../../support.ts";

const folder = mkdtempSync(join(tmpdir(), "foothold-scorer-"));
/** A program that reads requests; `body` may use request, all (those so far) and say. */
function scorer(name: string, body: string): ScorerProcess {
  const path = join(folder, `${name}.mjs`);
  writeFileSync(
    path,
    `import { createInterface } from "node:readline";
const all = [];
const say = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
createInterface({ input: process.stdin }).on("line", (line) => { const request = JSON.parse(line); all.push(request); ${body} });`,
  );
  return new ScorerProcess(`"${process.execPath}" "${path}"`);
}
const request = (completion: string) => ({ systemPrompt: null, prompt: "?", completion, answer: "a" });

describe("rl/environments/scorer-process", (test) => {
  test.after(() => rmSync(folder, { recursive: true, force: true }));

  test("verdicts come in any order and belong to their conversations", async () => {
    const backwards = scorer(
      "backwards",
      "if (all.length === 3) for (const { id, completion } of all.reverse()) say({ id, reward: completion.length, rewards: { length: completion.length } });",
    );
    const verdicts = await Promise.all(["a", "bb", "ccc\n\u2028"].map((text) => backwards.score(request(text))));
    equal(
      verdicts.map(({ reward }) => reward),
      [1, 2, 5],
    );
    equal(verdicts[0].parts, { rewards: { length: 1 } });
    backwards.close();
  });

  test("an error or a reward that is no number fails its conversation alone", async () => {
    const mixed = scorer("mixed", "say({ id: request.id, ...JSON.parse(request.completion) });");
    await throwsMessage(() => mixed.score(request('{"error": "no key"}')), "mixed.mjs", "gave an error: no key");
    for (const [reward, got] of [
      ['"1"', 'got "1"'],
      ["null", "got null"],
    ])
      await throwsMessage(() => mixed.score(request(`{"reward": ${reward}}`)), 'expected a number as "reward"', got);
    await throwsMessage(() => mixed.score(request("{}")), "got none");
    // Python's json writes these, though JSON does not have them.
    const python = scorer(
      "python",
      `process.stdout.write('{"id": ' + request.id + ', ' + (request.completion || '"reward": ' + all.length) + '}\\n');`,
    );
    for (const written of ["NaN", "Infinity", "-Infinity"])
      await throwsMessage(
        () => python.score(request(`"reward": ${written}`)),
        `expected a number as "reward", got "${written}"`,
      );
    const episode = { index: 0, prompt: "?", score: () => 0 };
    for (const rewards of ['{"form": NaN}', '{"form": null}', "[1]"]) {
      const score = await python.score(request(`"reward": 1, "rewards": ${rewards}`));
      await throwsMessage(
        () => verdictOf(episode, score),
        rewards === "[1]" ? "rewards: expected an object" : "finite reward of form",
      );
    }
    is((await python.score(request(""))).reward, 7, "it is the same process all the while");
    python.close();
    equal(
      await mixed.score(request('{"reward": 0.25, "rewards": null, "error": null}')),
      { reward: 0.25 },
      "null is a field that is not set",
    );
    is((await mixed.score(request('{"reward": 0.5}'))).reward, 0.5, "it still runs");
    mixed.close();
  });

  test("what has no end of line is named at the time limit; much of it ends the process, before it fills the memory", async () => {
    const unended = scorer("unended", "process.stdout.write(JSON.stringify({ id: request.id, reward: 1 }));");
    const limit = new AbortController();
    const waiting = unended.score(request("a"), limit.signal);
    setTimeout(() => limit.abort(), 500);
    await throwsMessage(() => waiting, 'time limit; what it wrote last has no end of line: {"id":1,"reward":1}');
    unended.close();
    const silent = scorer("silent", 'if (request.completion === "x") say({ id: request.id, reward: 1 });');
    const first = new AbortController();
    const unheard = silent.score(request("a"), first.signal);
    setTimeout(() => first.abort(), 500);
    await throwsMessage(() => unheard, "It has written nothing yet", "flush its output after each line");
    is((await silent.score(request("x"))).reward, 1);
    const second = new AbortController();
    const slow = silent.score(request("a"), second.signal);
    setTimeout(() => second.abort(), 500);
    ok(!(await throwsMessage(() => slow, "within the time limit")).message.includes("flush"), "it does flush");
    silent.close();
    const flood = scorer("flood", 'for (let i = 0; i < 20; i++) process.stdout.write("x".repeat(2 ** 20));');
    await throwsMessage(
      () => flood.score(request("a")),
      "wrote more than 16777216 characters without the end of a line: xxx",
    );
    flood.close();
  });

  test("a line that is no verdict ends it; the next conversation starts it again", async () => {
    const chatty = scorer(
      "chatty",
      'if (request.completion === "talk") console.log("loading"); else say({ id: request.id, reward: all.length });',
    );
    is((await chatty.score(request("x"))).reward, 1);
    await throwsMessage(() => chatty.score(request("talk")), "wrote a line that is no verdict: loading");
    is((await chatty.score(request("x"))).reward, 1, "a new process");
    chatty.close();
    const wrong = scorer("wrong", "say({ id: 99, reward: 1 });");
    await throwsMessage(() => wrong.score(request("x")), "wrote a verdict on 99, which it was not asked for");
    wrong.close();
  });

  test("a process that ends fails what is under way, with its last words; after three starts in vain there is none", async () => {
    const dying = scorer("dying", 'console.error("out of memory"); process.exit(3);');
    const lost = await Promise.allSettled([dying.score(request("a")), dying.score(request("b"))]);
    for (const one of lost) {
      ok(one.status === "rejected");
      match(String(one.reason), "ended with exit code 3. Its last error output: out of memory");
    }
    for (let i = 0; i < 2; i++) await throwsMessage(() => dying.score(request("c")), "exit code 3");
    await throwsMessage(
      () => dying.score(request("d")),
      "ended 3 times in a row without a verdict, and is not started again",
    );
    const none = new ScorerProcess("/no/such/program");
    await throwsMessage(() => none.score(request("a")), 'scorer "/no/such/program": ended with exit code 127');
  });

  test("over the time limit a conversation fails alone, and a late verdict is no error; a process that hangs is ended", async () => {
    // The verdict on "late" comes just before the one on "release".
    const slow = scorer(
      "slow",
      'if (request.completion === "late") return; if (request.completion === "release") say({ id: all.at(-3).id, reward: 1 }); say({ id: request.id, reward: 2 });',
    );
    is((await slow.score(request("a"))).reward, 2);
    const stop = new AbortController();
    const late = slow.score(request("late"), stop.signal);
    is((await slow.score(request("b"))).reward, 2);
    stop.abort();
    await throwsMessage(() => late, "gave no verdict within the time limit");
    is((await slow.score(request("release"))).reward, 2, "after the late verdict");
    slow.close();
    const hanging = scorer(
      "hanging",
      'if (request.completion === "hang") for (;;); say({ id: request.id, reward: all.length });',
    );
    is((await hanging.score(request("x"))).reward, 1);
    const limit = new AbortController();
    const [hung, other] = [hanging.score(request("hang"), limit.signal), hanging.score(request("x"))];
    setTimeout(() => limit.abort(), 50);
    await throwsMessage(() => hung, "gave no verdict within the time limit");
    await throwsMessage(() => other, "time limit of another conversation");
    is((await hanging.score(request("x"))).reward, 1, "a new process");
    hanging.close();
  });

  test("several reward functions with weights, at once or later", async () => {
    const length = { weight: 0.5, score: ([text]: readonly string[]) => text.length };
    equal(weightedScore({ length, one: { score: () => 1 } })(["four"]), {
      reward: 3,
      parts: { rewards: { length: 4, one: 1 } },
    });
    const later = weightedScore({ length, one: { weight: -1, score: async () => 1 } })(["four"]);
    ok(later instanceof Promise);
    equal(await later, { reward: 1, parts: { rewards: { length: 4, one: 1 } } });
  });

  test("a reward function that gives no number is named; so is a weight that is none", async () => {
    const of = (score: unknown) => weightedScore({ sound: { score: () => 1 }, odd: { score: () => score as number } });
    await throwsMessage(() => of(undefined)([""]), "the reward function odd: expected a finite number, got undefined");
    await throwsMessage(() => of(true)([""]), "the reward function odd: expected a finite number, got true");
    await throwsMessage(
      () => of(Promise.resolve("1"))([""]),
      'the reward function odd: expected a finite number, got the text "1"',
    );
    for (const weight of ["2", Number.NaN])
      await throwsMessage(
        () => weightedScore({ odd: { weight: weight as number, score: () => 1 } }),
        "weightedScore: the weight of odd: expected a finite number",
      );
  });

  test("a function that throws beside one whose promise is broken later costs its conversation, not the process", async () => {
    const unheard: unknown[] = [];
    const hear = (reason: unknown): void => void unheard.push(reason);
    process.on("unhandledRejection", hear);
    const score = weightedScore({
      later: { score: () => Promise.reject(new Error("later down")) },
      now: {
        score: () => {
          throw new Error("now down");
        },
      },
    });
    await throwsMessage(() => score([""]), "now down");
    await new Promise((done) => setTimeout(done, 20));
    process.off("unhandledRejection", hear);
    equal(unheard, []);
  });
});

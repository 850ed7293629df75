import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { FileError } from "../../engine/host/index.ts";
import { dropFromLast, type MetricsRecord, openMetrics } from "../../rl/metrics-file.ts";
import { describe, throwsMessage } from "../support.ts";

describe("rl/metrics-file", (test) => {
  const folder = mkdtempSync(join(tmpdir(), "foothold-metrics-"));
  test.after(() => rmSync(folder, { recursive: true }));
  let number = 0;
  const fresh = (content = "") => {
    const path = join(folder, `metrics-${number++}.jsonl`);
    if (content !== "") writeFileSync(path, content);
    return path;
  };
  const recordsOf = (step: number): MetricsRecord[] => [
    { step, reward: step / 7, "clip_ratio/low_mean": 0, note: "größer" },
    ...(step % 5 === 0 ? [{ step, "eval/reward": step / 3 }] : []),
  ];
  const run = (path: string, from: number, to: number) => {
    const metrics = openMetrics(path, from);
    for (let step = from + 1; step <= to; step++) for (const record of recordsOf(step)) metrics.append(record);
    metrics.close();
    return metrics;
  };
  const undisturbed = fresh();
  run(undisturbed, -1, 20);
  const bytes = readFileSync(undisturbed);

  test("a line a record, in the order of its keys", () => {
    const path = fresh();
    const metrics = openMetrics(path, -1);
    metrics.append({ step: 0, b: 1.5, a: true, c: null, d: Number.NaN, e: "x\ny" });
    metrics.close();
    is(readFileSync(path, "utf8"), '{"step":0,"b":1.5,"a":true,"c":null,"d":null,"e":"x\\ny"}\n');
  });
  test("resumed after being cut at any byte, the file equals an undisturbed one", () => {
    for (let cut = 0; cut <= bytes.length; cut += 13) {
      const path = fresh();
      writeFileSync(path, bytes.subarray(0, cut));
      // The last state that could have been saved: all records of its step are in the file.
      let saved = -1;
      for (let step = 0; step <= 20; step++)
        if (bytes.subarray(0, cut).includes(`${JSON.stringify(recordsOf(step).at(-1))}\n`)) saved = step;
      const metrics = run(path, saved, 20);
      is(Buffer.compare(readFileSync(path), bytes), 0, `cut at ${cut}`);
      is(metrics.lastStep, 20);
    }
  });
  test("lines of later steps are taken away, those of the step itself stay", () => {
    const path = fresh(bytes.toString());
    const metrics = openMetrics(path, 10);
    is(metrics.lastStep, 10);
    is(metrics.removedBytes, bytes.length - readFileSync(path).length);
    const steps = readFileSync(path, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).step);
    equal(steps.slice(-3), [9, 10, 10]);
    metrics.close();
    run(path, 10, 20);
    is(Buffer.compare(readFileSync(path), bytes), 0);
  });
  test("a run that begins takes an old file away", () => {
    const path = fresh(bytes.toString());
    const metrics = openMetrics(path, -1);
    is(metrics.removedBytes, bytes.length);
    is(metrics.lastStep, -1);
    metrics.close();
    is(readFileSync(path, "utf8"), "");
  });
  test("a whole file is left as it is", () => {
    const metrics = openMetrics(undisturbed, 20);
    is(metrics.removedBytes, 0);
    metrics.close();
    is(Buffer.compare(readFileSync(undisturbed), bytes), 0);
  });
  for (const [what, tail] of [
    ["zeros, as after a power cut", "\0\0\0\0\n\0\0"],
    ["half a line", '{"step":21,"rew'],
    ["half of a character", Buffer.from([0x7b, 0xc3])],
    ["a line without its newline", '{"step":20}'],
  ] as const)
    test(`a torn tail goes: ${what}`, () => {
      const path = fresh(bytes.toString());
      appendFileSync(path, tail);
      openMetrics(path, 20).close();
      is(Buffer.compare(readFileSync(path), bytes), 0);
    });
  for (const [what, content, line] of [
    ["in the middle", '{"step":1}\n{"st\n{"step":2}\n', 2],
    ["steps that fall", '{"step":1}\n{"step":2}\n{"step":1}\n', 3],
    ["no step", '{"reward":1}\n{"step":2}\n', 1],
  ] as const)
    test(`refuses damage that no kill can do: ${what}`, async () => {
      const path = fresh(content);
      const error = await throwsMessage(() => openMetrics(path, 2), `${path}: line ${line}`, "Restore the file");
      ok(error instanceof FileError);
      is(readFileSync(path, "utf8"), content);
    });
  test("damage among steps that go anyway is no matter", () => {
    const path = fresh('{"step":1}\n{"st\n{"step":2}\n');
    openMetrics(path, 1).close();
    is(readFileSync(path, "utf8"), '{"step":1}\n');
  });
  test("refuses a step before the last one", async () => {
    const metrics = openMetrics(fresh(), -1);
    metrics.append({ step: 3 });
    metrics.append({ step: 3 });
    await throwsMessage(() => metrics.append({ step: 2 }), "from 3 on, got 2");
    await throwsMessage(() => metrics.append({ step: Number.NaN }), "got NaN");
    metrics.close();
  });
  test("metrics are taken out of the last record alone, and only if it is of the step that is asked for", () => {
    const content = '{"step":2,"eval/reward":0.5}\n{"step":3,"reward":0.1,"eval/reward":0.25,"loss":1e-7}\n';
    const isEvaluation = (metric: string) => metric.startsWith("eval/");
    const path = fresh(content);
    dropFromLast(path, 2, isEvaluation);
    is(readFileSync(path, "utf8"), content);
    for (let times = 0; times < 2; times++) {
      dropFromLast(path, 3, isEvaluation);
      is(readFileSync(path, "utf8"), '{"step":2,"eval/reward":0.5}\n{"step":3,"reward":0.1,"loss":1e-7}\n');
    }
    dropFromLast(join(folder, "absent.jsonl"), 3, isEvaluation);
    const torn = fresh('{"step":3,"eval/reward":1}');
    dropFromLast(torn, 3, isEvaluation);
    is(readFileSync(torn, "utf8"), '{"step":3,"eval/reward":1}');
  });
});

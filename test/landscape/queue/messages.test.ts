// What a worker and the one that hands out refuse: messages out of schema, texts that may name files or programs, paths outside
// the folders that are allowed, other checkpoints, other plans. No server and no adapter.
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import * as assert from "uvu/assert";
import { sha256File } from "../../../engine/host/index.ts";
import { type Item, type ItemPart, itemParts } from "../../../landscape/files/item-parts.ts";
import { gridCells } from "../../../landscape/grid.ts";
import { queueAddress } from "../../../landscape/queue/address.ts";
import { askedPart, placesOf } from "../../../landscape/queue/asked-part.ts";
import {
  announcementSchema,
  type CheckpointMessage,
  checked,
  jobId,
  packResult,
  type Stripe,
  stripeSchema,
  unpackResult,
} from "../../../landscape/queue/messages.ts";
import { refusal } from "../../../landscape/queue/open-study.ts";
import { mixedNames, planDifference } from "../../../landscape/queue/plans.ts";
import { itemProblem } from "../../../landscape/queue/result-shapes.ts";
import { stripesOf } from "../../../landscape/queue/stripes.ts";
import { announcementOf, settingsOf } from "../../../landscape/queue/study-message.ts";
import { findCheckpoint } from "../../../landscape/queue/worker-checkpoints.ts";
import { WorkerTable } from "../../../landscape/queue/worker-table.ts";
import { withGivenSteps } from "../../../landscape/sweep-study.ts";
import { modelFiles } from "../../../model/index.ts";
import { describe, throwsMessage } from "../../support.ts";
import { smallSweep as settings, warmModel } from "../given-sweep.ts";

const plan = { adapter: "a card", foothold: "1.0.0", gitRevision: null, order: "pairs" };
const id = "7f0c1e9a-2b7e-4c39-9b53-0d5a3c1f2e4b";
const worker = { id, name: "worker" };

async function messageOf(path: string): Promise<CheckpointMessage> {
  const names = await modelFiles(path);
  return {
    step: 0,
    path,
    hub: null,
    sha256: Object.fromEntries(names.map((name) => [name, sha256File(join(path, name))])),
  };
}

describe("landscape/queue/messages", (test) => {
  const place = mkdtempSync(join(tmpdir(), "foothold-messages-"));
  test.after(() => rmSync(place, { recursive: true, force: true }));

  const study = async (given: Readonly<Record<string, unknown>> = {}) => {
    const resolved = withGivenSteps(
      settings({ checkpoints: [warmModel], queue: "redis://me:secret@head:6379", ...given }),
    );
    const checkpoints = [await messageOf(warmModel)];
    return { settings: resolved, plan, allowMixed: false, files: {}, trajectory: [0], state: place, checkpoints };
  };

  test("an announcement keeps the settings of a measurement, and neither the password nor the folder", async () => {
    const sent = await study({ out: "runs/mine" });
    const announcement = announcementOf(sent, 0);
    const received = checked(announcementSchema, JSON.parse(JSON.stringify(announcement)));
    assert.not.match(JSON.stringify(received), /secret|runs\/mine/);
    assert.equal(settingsOf(received, null).landscape, sent.settings.landscape);
    assert.equal(settingsOf(received, null).environment, sent.settings.environment);
    for (const [key, value] of [
      ["queue", "../../etc"],
      ["extra", 1],
      ["checkpoints", [{ ...received.checkpoints[0], sha256: { "../x": "0".repeat(64) } }]],
      ["checkpoints", [{ ...received.checkpoints[0], hub: { name: "a/../b", commit: "main" } }]],
    ] as const)
      await throwsMessage(() => checked(announcementSchema, { ...received, [key]: value }), key === "extra" ? "" : key);
  });

  test("a text that may name a file or a program comes from the worker's own file", async () => {
    const scorer = {
      "environment.name": "dataset",
      "environment.dataset.data": "x.jsonl",
      "environment.dataset.scorer": "rm -rf /",
    };
    const sent = await study(scorer);
    const announcement = announcementOf(sent, 0);
    await throwsMessage(() => settingsOf(announcement, null), "may name a file or a program of yours");
    const own = settings({ ...scorer, "environment.dataset.scorer": "./my-scorer" });
    const { environment } = settingsOf(announcement, own);
    assert.match(JSON.stringify(environment), "./my-scorer");
    assert.not.match(JSON.stringify(environment), "rm -rf");
    const file = await study({
      "landscape.directions.delta.kind": "file",
      "landscape.directions.delta.file": "/etc/passwd",
    });
    await throwsMessage(() => settingsOf(announcementOf(file, 0), null), "landscape.directions.delta.file");
  });

  test("a checkpoint is read below allowed folders only, and must have the study's digests", async () => {
    const inside = join(place, "shared", "model");
    cpSync(warmModel, inside, { recursive: true });
    const message = await messageOf(inside);
    const places = { run: "", shared: [join(place, "shared")] };
    assert.is(await findCheckpoint(message, places, {}), inside);
    assert.is(await findCheckpoint(message, { run: warmModel, shared: [] }, {}), warmModel);
    for (const path of ["/etc", join(place, "shared", "..", "other"), join(place, "shared-too")])
      await throwsMessage(() => findCheckpoint({ ...message, path }, places, {}), "--shared");
    symlinkSync(dirname(warmModel), join(place, "shared", "link"));
    const linked = join(place, "shared", "link", basename(warmModel));
    await throwsMessage(() => findCheckpoint({ ...message, path: linked }, places, {}), "--shared");
    writeFileSync(join(inside, "config.json"), "{}");
    await throwsMessage(() => findCheckpoint(message, places, {}), "config.json differs");
  });

  test("results out of schema or beyond the bound are refused", async () => {
    const set = { tokens: [[1]], reward: [[0]], advantage: [[0]] };
    const facts = { seed: 1, slice: 0, digest: "d" };
    const body = { reference: set, facts, worst: null, other: null, items: [], cells: [] };
    const result = packResult({ worker, plan, seconds: 1 }, body);
    assert.equal(unpackResult(JSON.parse(JSON.stringify(result))).body, body);
    const packed = (value: unknown): unknown => ({
      ...result,
      body: gzipSync(JSON.stringify(value)).toString("base64"),
    });
    await throwsMessage(() => unpackResult(packed({ ...body, extra: 1 })), "extra");
    await throwsMessage(() => unpackResult(packed({ ...body, cells: [{ record: {}, conversations: "" }] })), "cells.0");
    const draw = { kind: "draw", draw: { draw: 1, reward: [[0]] } };
    const drawn = packed({ ...body, items: [draw] });
    assert.equal(unpackResult(drawn).body.items, [draw]);
    for (const item of [
      { ...draw, run: "x" },
      { ...draw, kind: "program" },
      { kind: "draw", draw: { draw: 1 } },
    ])
      await throwsMessage(() => unpackResult(packed({ ...body, items: [item] })), "items.0");
    await throwsMessage(() => unpackResult({ ...result, body: "no base64!" }), "body");
    await throwsMessage(() => unpackResult({ ...result, run: "x" }), "run");
    await throwsMessage(() => unpackResult({ ...result, worker: { ...worker, name: "\u001b[31m" } }), "worker.name");
    await throwsMessage(() => unpackResult({ ...result, body: result.body.slice(0, 40) }), "");
  });

  test("stripes are neighbours, cover each wanted cell once, and have the same ids every time", async () => {
    const cut = () =>
      stripesOf(
        { name: "slice-0", neighbours: gridCells({ points: 5, radius: 0.05 }) },
        4,
        ({ i, j }) => i + j !== 3,
        ({ i, j }) => `${i}${j}`.padEnd(64, "0"),
      );
    const stripes = cut();
    const places = stripes.flatMap(({ cells }) => cells.map(({ i, j }) => 5 * i + j));
    assert.equal(
      places,
      Array.from({ length: 25 }, (_, k) => k).filter((k) => Math.floor(k / 5) + (k % 5) !== 3),
    );
    for (const stripe of stripes) checked(stripeSchema, stripe);
    assert.equal(stripes.map(jobId), cut().map(jobId));
    assert.is(new Set(stripes.map(jobId)).size, stripes.length);
    assert.is.not(jobId({ ...stripes[0], notBy: id }), jobId(stripes[0]));
    for (const part of ["rays", "line-minus-10", "fixed-kl", "worst-kl", "pairs", "slice-0-kl-from-20"])
      checked(stripeSchema, { ...stripes[0], part });
    for (const part of ["..", "rays/..", "line-plus-", "worst-", "pairs/..", "slice-0-kl-from-", ""])
      await throwsMessage(() => checked(stripeSchema, { ...stripes[0], part }), "part");
  });

  test("a worker measures places of its own settings; only points at fixed KL have their scale from the message", async () => {
    const given = { "landscape.rays.count": 1, "landscape.rays.kl": [0.01], "landscape.rays.freshPrompts": 2 };
    const { settings: resolved } = await study(given);
    const stripe = (part: string, j: number, scale: number | null): Stripe => ({
      ...{ schemaVersion: 3, part, notBy: null },
      cells: [{ i: 0, j, scale, key: "0".repeat(64) }],
    });
    const places = (part: string, j: number, scale: number | null) =>
      placesOf(stripe(part, j, scale), askedPart(resolved, 0, part)?.points ?? []);
    assert.equal(places("fixed-kl", 1, -0.3), [{ i: 0, j: 1, alpha: -0.3, beta: 0 }]);
    assert.equal(places("fresh", 1, null), places("rays", 1, null));
    for (const scale of [null, 0.3]) await throwsMessage(() => places("fixed-kl", 1, scale), "cannot have the scale");
    await throwsMessage(() => places("rays", 1, -0.3), "cannot have the scale");
    await throwsMessage(() => places("fixed-kl", 2, 0.3), "is not in the study's fixed-kl");
    assert.is(askedPart(resolved, 0, "worst-kl"), undefined);
  });

  test("items of another kind, place or shape are refused", async () => {
    const { settings: resolved } = await study({
      ...{ "landscape.rays.count": 2, "landscape.rays.kl": [0.01, 0.02], "landscape.noiseFloor": 2 },
      "landscape.pairs": true,
    });
    const { landscape } = resolved;
    const [scales, lengths, draws] = itemParts(resolved, 0);
    const problem = (item: Item, part: ItemPart): string =>
      itemProblem(item, part.items[0], part, landscape, 0) ?? "none";
    const scale = { ray: 0, sign: 1 as const, scale: 0.1, kl: 0.01, passes: [] };
    const both = [
      { ...scale, target: 0.01 },
      { ...scale, target: 0.02 },
    ];
    assert.is(problem({ kind: "scales", scales: both }, scales), "none");
    assert.match(problem({ kind: "scales", scales: both.slice(1) }, scales), "other targets");
    assert.match(problem({ kind: "scales", scales: [both[0], { ...both[1], scale: -1 }] }, scales), "not above 0");
    assert.is(problem({ kind: "lengths", lengths: [1, 2] }, lengths), "none");
    assert.match(problem({ kind: "lengths", lengths: [1] }, lengths), "1 lengths of 2 rays");
    assert.match(problem({ kind: "lengths", lengths: [1, 2] }, draws), "in place of draw");
    const reward = [[0], [0]];
    assert.is(problem({ kind: "draw", draw: { draw: 1, reward } }, draws), "none");
    assert.match(problem({ kind: "draw", draw: { draw: 2, reward } }, draws), "has draw 2");
    assert.match(problem({ kind: "draw", draw: { draw: 1, reward: [[0]] } }, draws), "are not 2 × 1");
  });

  test("plans: another driver or version is named, may be mixed, and marks; another order never", async () => {
    assert.is(planDifference(plan, { ...plan }), null);
    const driver = { ...plan, adapter: "another card" };
    const version = { ...plan, foothold: "1.0.1" };
    const order = { ...plan, order: "left to right" };
    const announcement = announcementOf(await study(), 0);
    const mixed = { ...announcement, allowMixed: true };
    assert.match(refusal(announcement, driver) ?? "", /"another card".*--allow-mixed/);
    assert.match(refusal(announcement, version) ?? "", "foothold 1.0.1");
    assert.is(refusal(mixed, driver), null);
    assert.match(refusal(mixed, order) ?? "", "left to right");
    assert.equal(mixedNames(["x"], plan, driver), ["x", "a card", "another card"]);
    assert.equal(mixedNames([], plan, version), ["foothold 1.0.0", "foothold 1.0.1"]);
  });

  test("addresses: user, password and TLS; messages show no password", async () => {
    const { shown, ...address } = queueAddress("rediss://me:p%40ss@head:6380/2", {});
    assert.equal(address, {
      host: "head",
      port: 6380,
      db: 2,
      username: "me",
      password: "p@ss",
      tls: { servername: "head" },
    });
    assert.is(shown, "rediss://head:6380");
    assert.is(queueAddress("redis://head", { FOOTHOLD_QUEUE_PASSWORD: "hidden" }).password, "hidden");
    for (const wrong of [
      "head:6379",
      "http://:secret@head",
      "redis://head/x",
      "redis://head?a=secret",
      "redis://%E0%@h",
    ]) {
      const { message } = await throwsMessage(() => settings({ queue: wrong }), "queue: expected redis://");
      assert.not.match(message, "secret");
    }
    await throwsMessage(() => settings({ queue: "redis://head", shard: "0/2" }), "give --shard or --queue");
  });

  test("the table of workers tells two of one name apart", () => {
    const table = new WorkerTable();
    const other = { ...worker, id: id.replace("7f", "8f") };
    table.took(worker, 3, 1, false);
    table.took(other, 2, 1, false);
    table.took(other, 1, 1, true);
    assert.is(table.line([]), "2 workers: worker 3, worker (2) 2");
    assert.match(table.summary().join(), /Worker worker: 3 cells in .*Worker worker \(2\): 2 cells and 1 as a check/);
  });
});

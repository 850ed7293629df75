// A data set of the hub: which files are its rows, the cache, and what is said when there are none; against a server of one
// small repository.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, is, ok } from "uvu/assert";
import { datasetFiles, locateDataset, NotAtHandError } from "../../model/hub-dataset.ts";
import { describe, throwsMessage } from "../support.ts";
import { breakAfter, commit, name, refuse, startHub } from "./hub-server.ts";

const shard = (part: string, i: number) => `main/${part}-0000${i}-of-00002.parquet`;
const files = new Map(
  ["README.md", shard("train", 0), shard("train", 1), "main/test-00000-of-00001.parquet", "other/train.jsonl"].map(
    (path) => [path, Buffer.from(`content of ${path}`.repeat(20))] as const,
  ),
);
const server = await startHub(files, "dataset");
const scratch = mkdtempSync(join(tmpdir(), "foothold-data-"));
let counter = 0;
const fresh = (more: Record<string, string> = {}) => {
  server.reset();
  return {
    environment: { HF_HOME: join(scratch, String(counter++)), HF_ENDPOINT: server.endpoint, ...more },
    retryMs: 5,
  };
};
const train = { config: "main", split: "train" };

describe("model/hub-dataset", (test) => {
  test.after(async () => {
    await server.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  test("the files of a configuration and split, in order, wherever data sets have them", () => {
    const of = (paths: string[], config = "default", split = "train") => datasetFiles(paths, { config, split });
    equal(
      of(["main/train-00001-of-00002.parquet", "main/train-00000-of-00002.parquet", "main/train2.parquet"], "main"),
      ["main/train-00000-of-00002.parquet", "main/train-00001-of-00002.parquet"],
    );
    equal(of(["data/train-00000-of-00001.parquet", "train.jsonl"]), ["data/train-00000-of-00001.parquet"]);
    equal(of(["train.jsonl", "test.jsonl"]), ["train.jsonl"]);
    equal(of(["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"]), [
      "default/train/0000.parquet",
      "default/train/0001.parquet",
    ]);
    equal(of(["data/train.parquet"], "main"), [], "data/ is the configuration default");
    equal(of(["main/a.b.parquet", "main/aXb.parquet"], "main", "a.b"), ["main/a.b.parquet"]);
  });

  test("only these files are fetched; a second time, and offline, none", async () => {
    const options = fresh();
    const found = await locateDataset(name, train, options);
    equal([found.commit, found.files.length], [commit, 2]);
    for (const [i, path] of found.files.entries())
      equal(readFileSync(path), files.get(shard("train", i)), "content, in the order of the shards");
    const storage = join(options.environment.HF_HOME, "hub", "datasets--org--small");
    is(readFileSync(join(storage, "refs", "main"), "utf8"), commit);
    ok(
      !existsSync(join(storage, "snapshots", commit, "other")) &&
        !existsSync(join(storage, "snapshots", commit, "README.md")),
    );
    server.seen.length = 0;
    equal(await locateDataset(name, train, options), found);
    ok(
      server.seen.every(({ url }) => url.startsWith("/api/")),
      "the hub is asked for the commit alone",
    );
    server.seen.length = 0;
    equal(await locateDataset(name, train, { environment: { ...options.environment, HF_HUB_OFFLINE: "1" } }), found);
    is(server.seen.length, 0);
  });

  test("a broken download is resumed; half a data set is none offline", async () => {
    const options = fresh();
    let broken = 0;
    server.faults.push((request, response) => {
      const path = shard("train", 1);
      if (!request.url?.endsWith(path) || !request.url.startsWith("/main") || broken++ > 0) return false;
      return breakAfter(response, files.get(path) ?? Buffer.alloc(0), request, 40);
    });
    await locateDataset(name, train, options);
    ok(broken > 1 && server.seen.some(({ range }) => range === "bytes=40-"));
    rmSync(join(options.environment.HF_HOME, "hub", "datasets--org--small", "snapshots", commit, shard("train", 1)));
    const error = await throwsMessage(
      () => locateDataset(name, train, { environment: { ...options.environment, HF_HUB_OFFLINE: "1" } }),
      "org/small: neither a file here nor in the cache of data sets",
    );
    ok(error instanceof NotAtHandError);
  });

  test("a hub that cannot be reached: the cache is used; refusals say what is wrong", async () => {
    const options = fresh();
    const found = await locateDataset(name, train, options);
    server.faults.push((_, response) => refuse(response, 503));
    equal(await locateDataset(name, train, options), found);
    server.reset();
    await throwsMessage(
      () => locateDataset(name, { config: "main", split: "dev" }, fresh()),
      '"main" and the split "dev"',
      "main/test-00000-of-00001.parquet",
    );
    await throwsMessage(
      () => locateDataset("org/other", train, fresh()),
      "org/other: there is neither a file of this name here nor a",
      "data set",
    );
    await throwsMessage(
      () => locateDataset(`${name}@none`, train, fresh()),
      'there is no revision "none"',
      "/datasets/org/small/commits",
    );
    await throwsMessage(
      () => locateDataset("a b", train, fresh()),
      "expected a data set of the Hugging Face hub as ORG/NAME",
    );
  });
});

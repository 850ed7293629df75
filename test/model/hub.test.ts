// Finding a model: a folder, the hub, the cache between them; against a server of one small repository that breaks
// connections, redirects, asks to wait and refuses.
import { createHash } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { CheckpointError, createProgress, FileError, lockFolder, SettingsError } from "../../engine/host/index.ts";
import { openCheckpoint } from "../../model/checkpoint-files.ts";
import { type LocateOptions, locateModel } from "../../model/hub.ts";
import { originOf } from "../../rl/files/run-folder.ts";
import { alphabetSort, generatedNames } from "../../rl/index.ts";
import { describe, fixturePath, throwsMessage } from "../support.ts";
import { breakAfter, commit, etagOf, name, refuse, startHub } from "./hub-server.ts";

const source = fixturePath("qwen2-tiny-bf16-sharded");
const files = new Map(readdirSync(source).map((path) => [path, readFileSync(join(source, path))]));
// What a model has beside what is read.
for (const other of ["README.md", "pytorch_model.bin", "optimizer.safetensors"]) files.set(other, Buffer.from(other));
const wanted = readdirSync(source)
  .filter((path) => path !== "README.md")
  .sort();
const shards = wanted.filter((path) => path.endsWith(".safetensors"));
const firstShard = files.get(shards[0]) ?? Buffer.alloc(0);

const server = await startHub(files);
const scratch = mkdtempSync(join(tmpdir(), "foothold-hub-"));
const token = "hf_aTokenThatNobodyMaySee";
let counter = 0;

/** An empty cache, and what a command would be started with. */
function fresh(more: Record<string, string> = {}): { options: LocateOptions; storage: string; text: () => string } {
  server.reset();
  const home = join(scratch, String(counter++));
  let shown = "";
  const stream = Object.assign(Object.create(process.stderr), {
    write: (text: string) => {
      shown += text;
      return true;
    },
    isTTY: false,
  });
  const options: LocateOptions = {
    environment: { HF_HOME: home, HF_ENDPOINT: server.endpoint, ...more },
    progress: createProgress({ stream }),
    retryMs: 5,
  };
  return { options, storage: join(home, "hub", "models--org--small"), text: () => shown };
}

const isFile = (url: string, path: string) => url.endsWith(`/${path}`);
const fileRequests = () => server.seen.filter(({ url }) => !url.startsWith("/api/")).length;

/** Every file as the server has it, every link as Python makes it, and nothing half done. */
function expectWhole(storage: string, links = true): void {
  const snapshot = join(storage, "snapshots", commit);
  assert.equal(readdirSync(snapshot).sort(), wanted);
  for (const path of wanted) {
    const content = server.files.get(path) ?? Buffer.alloc(0);
    assert.ok(readFileSync(join(snapshot, path)).equals(content), path);
    if (links) assert.is(readlinkSync(join(snapshot, path)), `../../blobs/${etagOf(path, content)}`);
    else assert.ok(lstatSync(join(snapshot, path)).isFile(), path);
  }
  assert.is(readFileSync(join(storage, "refs", "main"), "utf8"), commit);
  assert.equal(
    readdirSync(join(storage, "blobs")).filter((blob) => blob.endsWith(".incomplete")),
    [],
  );
}

describe("model/hub: where a model is looked for", (test) => {
  test("a folder on disk is taken as it is", async () => {
    const { options } = fresh();
    const located = await locateModel(source, options);
    assert.equal(located, { folder: source, name: "qwen2-tiny-bf16-sharded", commit: null, source: "folder" });
    assert.is(server.seen.length, 0);
  });

  test("a folder wins over a model of the hub with its name", async () => {
    const { options } = fresh();
    const here = process.cwd();
    const place = join(scratch, "work");
    mkdirSync(join(place, name), { recursive: true });
    process.chdir(place);
    try {
      assert.is((await locateModel(name, options)).source, "folder");
    } finally {
      process.chdir(here);
    }
    assert.is(server.seen.length, 0);
  });

  for (const text of [
    "/no/such/folder",
    "./org/small",
    "small",
    "org/small/more",
    "org/small@",
    "org/small@../../x",
    "a--b/c",
  ])
    test(`neither a folder nor a name: ${text}`, async () => {
      const { options } = fresh();
      const error = await throwsMessage(() => locateModel(text, options), text, "ORG/NAME@REVISION", "no such folder");
      assert.instance(error, CheckpointError);
      assert.is(server.seen.length, 0);
    });

  test("a file is no folder", async () => {
    await throwsMessage(() => locateModel(join(source, "config.json"), fresh().options), "this is a file");
  });

  test("fetches what a model needs, in the layout of Python's cache", async () => {
    const { options, storage, text } = fresh();
    const located = await locateModel(name, options);
    assert.equal(located, { folder: join(storage, "snapshots", commit), name, commit, source: "hub" });
    expectWhole(storage);
    await (await openCheckpoint(located.folder)).close();
    assert.ok(text().includes("fetching org/small"), text());
    const { model } = await originOf(new CpuBackend(), located, alphabetSort(generatedNames()));
    assert.is(model.name, name);
    assert.is(model.commit, commit);
    assert.equal(Object.keys(model.sha256), wanted);
    // The second time nothing but the commit and the list is asked for.
    server.seen.length = 0;
    assert.equal(await locateModel(`${name}@${commit}`, options), located);
    assert.is(fileRequests(), 0);
  });

  test("without weights, for a random model of that shape", async () => {
    const { options, storage } = fresh();
    const { folder } = await locateModel(name, { ...options, weights: false });
    assert.not.ok(readdirSync(folder).some((path) => path.includes("safetensors")));
    await locateModel(name, options);
    expectWhole(storage);
  });

  test("copies where there are no links", async () => {
    const { options, storage } = fresh();
    await locateModel(name, { ...options, links: false });
    expectWhole(storage, false);
  });

  test("takes what Python has fetched, and mends a link to nothing", async () => {
    const { options, storage } = fresh();
    const snapshot = join(storage, "snapshots", commit);
    mkdirSync(join(storage, "blobs"), { recursive: true });
    mkdirSync(snapshot, { recursive: true });
    for (const path of shards) {
      const content = server.files.get(path) ?? Buffer.alloc(0);
      writeFileSync(join(storage, "blobs", etagOf(path, content)), content);
      symlinkSync(`../../blobs/${etagOf(path, content)}`, join(snapshot, path));
    }
    symlinkSync("../../blobs/gone", join(snapshot, "config.json"));
    await locateModel(name, options);
    expectWhole(storage);
    assert.not.ok(server.seen.some(({ host }) => host === "storage"));
  });

  test("HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME, in this order", async () => {
    const base = { HF_ENDPOINT: server.endpoint, HERE: scratch };
    for (const [environment, folder] of [
      [{ XDG_CACHE_HOME: join(scratch, "xdg") }, join(scratch, "xdg", "huggingface", "hub")],
      [{ XDG_CACHE_HOME: "/nowhere", HF_HOME: "$HERE/home" }, join(scratch, "home", "hub")],
      [{ HF_HOME: "/nowhere", HF_HUB_CACHE: `\${HERE}/cache` }, join(scratch, "cache")],
    ] as const) {
      fresh();
      const located = await locateModel(name, { environment: { ...base, ...environment } });
      assert.is(located.folder, join(folder, "models--org--small", "snapshots", commit));
    }
  });

  test("offline: the cache alone, or a message", async () => {
    const { options, storage } = fresh();
    const offline = { ...options, environment: { ...options.environment, HF_HUB_OFFLINE: "1" } };
    await throwsMessage(() => locateModel(name, offline), name, "HF_HUB_OFFLINE", join(storage, ".."));
    await locateModel(name, options);
    server.seen.length = 0;
    assert.is((await locateModel(name, offline)).commit, commit);
    assert.is((await locateModel(`${name}@${commit}`, offline)).commit, commit);
    rmSync(join(storage, "snapshots", commit, shards[0]));
    await throwsMessage(() => locateModel(name, offline), "HF_HUB_OFFLINE");
    assert.is(server.seen.length, 0);
  });

  test("no hub: the cache, with a word; without one, what to check", async () => {
    const { options, text } = fresh();
    await locateModel(name, options);
    const gone = await startHub(new Map());
    await gone.close();
    const nowhere = { ...options, environment: { ...options.environment, HF_ENDPOINT: gone.endpoint } };
    assert.is((await locateModel(name, nowhere)).commit, commit);
    assert.ok(text().includes(`commit ${commit}`), text());
    await throwsMessage(() => locateModel("org/other", nowhere), "org/other", gone.endpoint, "ECONNREFUSED", "folder");
  });
});

describe("model/hub: downloads", (test) => {
  test("go on where the connection broke, and in a later process", async () => {
    const { options, storage } = fresh();
    const half = Math.floor(firstShard.length / 2);
    const cut = (count: number) => {
      let left = count;
      server.faults.push((request, response) => {
        if (!isFile(request.url ?? "", shards[0]) || request.headers.host === new URL(server.endpoint).host)
          return false;
        return left-- > 0 ? breakAfter(response, firstShard, request, half / 4) : false;
      });
    };
    cut(2);
    await locateModel(name, options);
    expectWhole(storage);
    const ranges = server.seen
      .filter(({ host, url }) => host === "storage" && isFile(url, shards[0]))
      .map(({ range }) => range);
    assert.is(ranges.length, 3);
    assert.is(ranges[0], undefined);
    for (const range of ranges.slice(1)) assert.match(range ?? "", /^bytes=[1-9]\d*-$/);

    const again = fresh();
    const blobs = join(again.storage, "blobs");
    mkdirSync(blobs, { recursive: true });
    writeFileSync(join(blobs, `${etagOf(shards[0], firstShard)}.incomplete`), firstShard.subarray(0, half));
    await locateModel(name, again.options);
    expectWhole(again.storage);
    assert.ok(server.seen.some(({ host, range }) => host === "storage" && range === `bytes=${half}-`));
  });

  test("a part of something else is found by its hash and fetched anew", async () => {
    const { options, storage } = fresh();
    mkdirSync(join(storage, "blobs"), { recursive: true });
    const begun = join(storage, "blobs", `${etagOf(shards[0], firstShard)}.incomplete`);
    writeFileSync(begun, Buffer.alloc(100, 7));
    await locateModel(name, options);
    expectWhole(storage);
  });

  test("a server without ranges sends it from the start", async () => {
    const { options, storage } = fresh();
    mkdirSync(join(storage, "blobs"), { recursive: true });
    writeFileSync(join(storage, "blobs", `${etagOf(shards[0], firstShard)}.incomplete`), firstShard.subarray(0, 99));
    server.faults.push((request) => {
      delete request.headers.range;
      return false;
    });
    await locateModel(name, options);
    expectWhole(storage);
  });

  for (const path of [shards[0], "config.json"])
    test(`content of another hash is refused: ${path}`, async () => {
      const { options, storage } = fresh();
      const content = Buffer.from(files.get(path) ?? []);
      content[content.length - 1] ^= 1;
      server.faults.push(({ url = "" }, response) => {
        if (!isFile(url, path) || (path === shards[0] && url.includes("resolve"))) return false;
        response.writeHead(200).end(content);
        return true;
      });
      const error = await throwsMessage(
        () => locateModel(name, options),
        path,
        "hash",
        etagOf(path, files.get(path) ?? content),
      );
      assert.instance(error, CheckpointError);
      assert.not.ok(existsSync(join(storage, "snapshots", commit, path)));
      assert.not.ok(existsSync(join(storage, "refs", "main")));
      assert.equal(
        readdirSync(join(storage, "blobs")).filter((blob) => blob.includes(etagOf(path, files.get(path) ?? content))),
        [],
      );
    });

  test("a connection that falls silent is broken off and taken up again", async () => {
    const { options, storage } = fresh();
    let silent = 1;
    server.faults.push(({ url = "" }, response) => {
      if (!isFile(url, "config.json") || silent-- <= 0) return false;
      response.writeHead(200).write("{");
      return true;
    });
    await locateModel(name, { ...options, stallMs: 100 });
    expectWhole(storage);
  });

  test("Ctrl-C stops at once and keeps what has come", async () => {
    const { options, storage } = fresh();
    const stop = new AbortController();
    server.faults.push((request, response) => {
      if (!isFile(request.url ?? "", shards[0]) || request.url?.includes("resolve")) return false;
      response.writeHead(200).write(firstShard.subarray(0, 1000));
      const arrived = setInterval(() => {
        if (statSync(begun, { throwIfNoEntry: false })?.size !== 1000) return;
        clearInterval(arrived);
        stop.abort(new Error("stop"));
      }, 5);
      return true;
    });
    const begun = join(storage, "blobs", `${etagOf(shards[0], firstShard)}.incomplete`);
    await throwsMessage(() => locateModel(name, { ...options, signal: stop.signal }), "stop");
    assert.is(readFileSync(begun).length, 1000);
    server.faults.length = 0;
    await locateModel(name, options);
    expectWhole(storage);
    assert.ok(server.seen.some(({ range }) => range === "bytes=1000-"));
  });

  test("two at once fetch each file once", async () => {
    const { options, storage } = fresh();
    await Promise.all([locateModel(name, options), locateModel(name, options), locateModel(name, options)]);
    expectWhole(storage);
    const fetched = server.seen.filter(({ host, url }) => host === "storage" || url.includes("/resolve/"));
    assert.is(fetched.length, wanted.length + shards.length); // a shard is asked for at the hub, then at its storage
  });

  test("a lock that nobody works under ends in a message", async () => {
    const { options, storage } = fresh();
    const folder = join(storage, "..", ".locks", "models--org--small", "foothold");
    const release = lockFolder(folder);
    const error = await throwsMessage(
      () => locateModel(name, { ...options, lockPatienceMs: 300 }),
      join(folder, ".lock"),
    );
    release();
    assert.instance(error, FileError);
  });
});

describe("model/hub: refusals", (test) => {
  test.after(async () => {
    await server.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  const refusedWith = async (
    status: number,
    headers: Record<string, string>,
    more: Record<string, string>,
    ...texts: string[]
  ) => {
    const { options } = fresh(more);
    server.faults.push((_, response) => refuse(response, status, headers));
    const error = await throwsMessage(() => locateModel(name, options), name, String(status), ...texts);
    assert.instance(error, CheckpointError);
    assert.is(server.seen.length, 1, "it does not pass, so it is not asked again");
    assert.not.ok(error.message.includes(token));
  };

  test("401: no such model, or a private one", () =>
    refusedWith(401, { "x-error-code": "RepoNotFound" }, {}, "spelling", "HF_TOKEN"));
  test("401: a token that is none", () =>
    refusedWith(401, {}, { HF_TOKEN: token }, "the token in HF_TOKEN", "/settings/tokens"));
  test("403: gated, without a token", () =>
    refusedWith(403, { "x-error-code": "GatedRepo" }, {}, "gated", `${server.endpoint}/${name}`, "set HF_TOKEN"));
  test("403: gated, with a token", () =>
    refusedWith(403, {}, { HF_TOKEN: token }, "accept its terms", "the token in HF_TOKEN"));

  test("404: which of repository, revision and file", async () => {
    const { options } = fresh();
    await throwsMessage(() => locateModel("org/smal", options), "org/smal", "folder", "spelling");
    await throwsMessage(() => locateModel(`${name}@v9`, options), `${name}@v9`, 'no revision "v9"', "/commits");
    server.files.delete("config.json");
    await throwsMessage(() => locateModel(name, options), name, "config.json", "there is none");
    server.reset();
    for (const path of [...server.files.keys()]) if (/^model.*safetensors/.test(path)) server.files.delete(path);
    await throwsMessage(() => locateModel(name, options), name, "model.safetensors.index.json", "convert");
  });

  test("a refused model that the cache has", async () => {
    const { options } = fresh();
    await locateModel(name, options);
    server.faults.push((_, response) => refuse(response, 404, { "x-error-code": "RepoNotFound" }));
    await throwsMessage(() => locateModel(name, options), "HF_HUB_OFFLINE=1");
  });

  test("429: waits as long as it is told, and not for ever", async () => {
    const { options, storage } = fresh();
    let busy = 1;
    server.faults.push((_, response) => (busy-- > 0 ? refuse(response, 429, { "retry-after": "1" }) : false));
    const start = performance.now();
    await locateModel(name, options);
    assert.ok(performance.now() - start >= 990);
    expectWhole(storage);

    const { options: later } = fresh();
    server.faults.push((_, response) => refuse(response, 429, { "retry-after": "3600" }));
    await throwsMessage(() => locateModel(name, later), "429", "3600 s", "HF_TOKEN");
    assert.is(server.seen.length, 1);
  });

  test("a LoRA adapter is said to be one, and how it is merged", async () => {
    const { options } = fresh();
    server.files.delete("config.json");
    server.files.set("adapter_config.json", Buffer.from("{}"));
    await throwsMessage(
      () => locateModel(name, options),
      "this is a LoRA adapter",
      `hf download ${name} --local-dir DIR`,
      "node model/export.ts --model DIR --out MERGED",
    );
  });

  test("5xx: few tries, then a message", async () => {
    const { options, storage } = fresh();
    let broken = 3;
    server.faults.push((_, response) => (broken-- > 0 ? refuse(response, 503) : false));
    await locateModel(name, options);
    expectWhole(storage);

    const { options: later } = fresh();
    server.faults.push((_, response) => refuse(response, 500));
    await throwsMessage(() => locateModel(name, later), name, "answered 500", "5 times");
    assert.is(server.seen.length, 5);
  });

  test("the token goes to the endpoint, not where it redirects, and nowhere else", async () => {
    const { options, storage, text } = fresh({ HF_TOKEN: ` ${token}\n` });
    await locateModel(name, options);
    assert.ok(server.seen.some(({ host }) => host === "storage"));
    for (const { host, authorization } of server.seen)
      assert.is(authorization, host === "hub" ? `Bearer ${token}` : undefined);
    assert.not.ok(text().includes(token));
    for (const path of readdirSync(join(storage, ".."), { recursive: true, encoding: "utf8" }))
      if (lstatSync(join(storage, "..", path)).isFile())
        assert.not.ok(readFileSync(join(storage, "..", path)).includes(token), path);
  });

  test("a token that `hf auth login` has left", async () => {
    const { options } = fresh();
    const home = options.environment?.["HF_HOME"] ?? "";
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "token"), `${token}\n`);
    await locateModel(name, options);
    assert.is(server.seen[0].authorization, `Bearer ${token}`);
  });

  test("an endpoint that is none is not repeated: it may hold a password", async () => {
    for (const endpoint of ["hub", "ftp://hub", "https://me:secret@hub"]) {
      const { options } = fresh({ HF_ENDPOINT: endpoint });
      const error = await throwsMessage(() => locateModel(name, options), "HF_ENDPOINT", "web address");
      assert.instance(error, SettingsError);
      assert.not.ok(error.message.includes("secret"));
    }
  });

  test("git's hash is what git says", () => {
    // `printf hello | git hash-object --stdin`
    const content = Buffer.from("hello");
    assert.is(etagOf("config.json", content), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
    assert.is(etagOf("x.safetensors", content), createHash("sha256").update("hello").digest("hex"));
  });
});

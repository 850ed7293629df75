// The start-up check passes a right driver and finds faults that drivers have had, whatever kernels the adapter runs.
import fs, { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import * as assert from "uvu/assert";
import { noAbilities } from "../../../engine/backends/backend.ts";
import { CpuBackend } from "../../../engine/backends/cpu.ts";
import { WebGpuBackend } from "../../../engine/backends/webgpu/backend.ts";
import { findWrongResult, type Meant, type WrongResult } from "../../../engine/check/check.ts";
import { checkDigest, hasPassed, rememberPass } from "../../../engine/check/passed.ts";
import { expectSoundDriver, refusal } from "../../../engine/check/start.ts";
import { OutOfMemoryError } from "../../../engine/errors.ts";
import { openBackend } from "../../../engine/open.ts";
import { matrixUnits } from "../../../engine/ops/shared/matrix-units.ts";
import { webgpuBackend } from "../../backends.ts";
import { stderrOf } from "../../stderr-of.ts";
import { describe, throwsMessage } from "../../support.ts";
import { type Edits, inWgsl, type Plant, withFault } from "./faults.ts";

/** The adapter with the kernels that it chooses, or on the same device with those that a GPU chooses. */
async function backendWith(kernels: "own" | "gpu"): Promise<WebGpuBackend> {
  const { backend } = await webgpuBackend();
  if (!(backend instanceof WebGpuBackend)) throw new Error("no WebGPU backend");
  if (kernels === "own") return backend;
  const { device, description, memory, abilities } = backend;
  return new WebGpuBackend(device, { description, style: "gpu", memory, abilities });
}

/** Drops every dispatch of a kernel but the first: what it should have replaced stays. */
function onlyFirst(name: RegExp): Plant {
  let count = 0;
  return (work) => (name.test(work.kernel.name) && count++ > 0 ? null : work);
}

const { backend: adapter } = await webgpuBackend();

describe("engine/check", (test) => {
  for (const kernels of ["own", "gpu"] as const) {
    const suffix = kernels === "own" ? "" : " (the kernels of GPUs)";
    const wrongWith = async (plant: Plant): Promise<WrongResult> => {
      const wrong = await findWrongResult(withFault(await backendWith(kernels), plant));
      if (wrong === null) throw new Error("the check found nothing");
      return wrong;
    };
    const wrongWithEdits = async (names: RegExp, edits: Edits): Promise<WrongResult> => {
      const { plant, count } = inWgsl(names, edits);
      const wrong = await findWrongResult(withFault(await backendWith(kernels), plant));
      assert.ok(count() > 0, "no kernel was changed");
      if (wrong === null) throw new Error("the check found nothing");
      return wrong;
    };

    test(`a right driver passes, and so does the plain backend${suffix}`, async () => {
      const backend = await backendWith(kernels);
      assert.is(await findWrongResult(backend), null);
      assert.is(await findWrongResult(new CpuBackend()), null);
    });

    test(`lanes that are swapped${suffix}`, async () => {
      const wrong = await wrongWithEdits(/^multiply/, [
        [/(subgroupBroadcast|quadBroadcast)\((b\d?(?:\.\w)?), 0u\)/g, "$1($2, 1u)"],
        [/rightTile\[four \* 64u \+ lane % 16u\]/, "rightTile[four * 64u + (lane ^ 1u) % 16u]"],
      ]);
      assert.match(wrong.work, "matrix product in f32, forward");
      assert.match(wrong.detail, / rows, element \d+ of \d+: expected -?[\d.]+ ± [\d.e-]+, got -?[\d.]+/);
    });

    test(`a sum in another order, whose numbers are right but for their last bits${suffix}`, async () => {
      // The tile for few rows: thin, or on lavapipe column.
      const order = (sums: string, b: (k: number) => string): [RegExp, string] => {
        const nested = (ks: readonly number[]): string =>
          ks.reduce((inner, k) => `fma(vec4f(a.${"xyzw"[k]}), ${b(k)}, ${inner})`, sums);
        return [new RegExp(nested([0, 1, 2, 3]).replace(/[.()[\]*]/g, "\\$&"), "g"), nested([3, 2, 1, 0])];
      };
      const wrong = await wrongWithEdits(/^multiplyForward(Thin|Column)/, [
        order("sums[r]", (k) => `b${k}`),
        order("(*sums)[row]", (k) => `b[${k}]`),
      ]);
      assert.match(wrong.work, "matrix product in f32, forward");
      assert.match(wrong.detail, "sums are in another order");
    });

    test(`a key that attention skips, forward${suffix}`, async () => {
      const wrong = await wrongWithEdits(/^attention(Tile)?$/, [
        [/isSeen\[r\] = slot < runs\.limit\[r\];/, "isSeen[r] = slot < runs.limit[r] && slot != 5u;"],
        [/weight\[h\] = exp\(difference\);/, "weight[h] = select(exp(difference), 0.0, slot == 5u);"],
      ]);
      assert.is(wrong.work, "attention, forward and backward");
      assert.match(wrong.detail, "y, element ");
    });

    test(`a token that attention skips, backward${suffix}`, async () => {
      const wrong = await wrongWith((work) =>
        // The last token's own gradients are missing from those of the keys.
        /^attention(Pairs)?BackwardKey$/.test(work.kernel.name)
          ? { ...work, params: { ...work.params, tokens: work.params["tokens"] - 1 } }
          : work,
      );
      assert.is(wrong.work, "attention, forward and backward");
      assert.match(wrong.detail, /^dKeys|^dValues/);
    });

    if (matrixUnits(adapter) !== null) {
      test(`a key, and a token, that attention on matrix units skips${suffix}`, async () => {
        const key = await wrongWithEdits(/^attentionMatrix/, [
          [/var seen = (0xffffffffu >> \(32u - count\));/, "var seen = ($1) & ~32u;"],
        ]);
        assert.is(key.work, "attention on matrix units, forward and backward");
        assert.match(key.detail, "y, element ");
        for (const [name, detail] of [
          [/^attentionMatrixBackwardKey$/, /^dKeys|^dValues/],
          [/^attentionMatrixBackwardQuery$/, /^dq/],
        ] as const) {
          const token = await wrongWith(({ kernel, params, ...work }) => ({
            ...{ ...work, kernel },
            params: name.test(kernel.name) ? { ...params, scale: params["scale"] * 1.02 } : params,
          }));
          assert.is(token.work, "attention on matrix units, forward and backward");
          assert.match(token.detail, detail);
        }
      });
    } else if (kernels === "own") {
      test.skip("attention on matrix units", `${adapter.description} has no matrix units for f16 operands`);
    }

    test(`a slot of weights, or of a cache, that keeps old values${suffix}`, async () => {
      assert.is((await wrongWith(onlyFirst(/^perturbRows$/))).work, "a perturbed weight in its slot");
      const panels = await wrongWith(onlyFirst(/^perturbPanels$/));
      assert.is(panels.work, "a perturbed weight in its slot");
      assert.is((await wrongWith(onlyFirst(/^perturbTogether$/))).work, "a perturbed weight in its slot");
      const copies = await wrongWithEdits(/^repeatSlots$/, [
        [/= values\[valuesStart \+ source \+ k\]/, "= values[valuesStart + place + k]"],
      ]);
      assert.is(copies.work, "attention over a cache");
      assert.match(copies.detail, "repeated");
      assert.match(panels.detail, "panels alone");
      assert.is((await wrongWith(onlyFirst(/^appendToCache$/))).work, "attention over a cache");
    });

    test(`f16 that overflows: numbers on conversion, sums of products${suffix}`, async () => {
      const saturated = await wrongWithEdits(/^toHalf/, [[/vec2u\(0x7c00u\)/, "vec2u(0x7bffu)"]]);
      assert.is(saturated.work, "conversion to f16");
      assert.match(saturated.detail, "expected Infinity, got 65504");
      const sums = await wrongWithEdits(/(Half|Matrix)$/, [
        [/(bitcast<f32>\(staged\[i \/ 4u\]\[i % 4u\]\))/, "select(clamp($1, -65504.0, 65504.0), $1, abs($1) > 1e30)"],
        [/= sum; \}/, "= select(clamp(sum, Result(-65504.0), Result(65504.0)), sum, abs(sum) > Result(1e30)); }"],
      ]);
      assert.match(sums.work, "matrix product in f16");
      assert.match(sums.detail, /got -?65504/);
    });

    test(`a stride that is wrong: rows of a product, heads of keys${suffix}`, async () => {
      const rows = await wrongWithEdits(/^multiplyForward/, [[/\* p\.leftRow;/, "* (p.leftRow + 4u);"]]);
      assert.is(rows.work, "matrix product in f32, forward");
      const keys = await wrongWithEdits(/^attention(Tile)?$/, [
        [/let stride = params\.keyHeads/, "let stride = params.heads"],
      ]);
      assert.is(keys.work, "attention, forward and backward");
    });

    test(`a load past the end that returns a number: the steps past a sum's last one${suffix}`, async () => {
      const guards: Edits = [
        [/select\(vec4f\(\), (.+?), (isStep|rest > \du|k \+ i \/ 16u < p\.count)\)/g, "$1"],
        [/select\(vec4f\(\), four, vec4u\(0u, 1u, 2u, 3u\) < vec4u\(count\)\)/g, "four"],
      ];
      const input = await wrongWithEdits(/^multiplyInput/, guards);
      assert.match(input.work, "gradient of the input");
      const weight = await wrongWithEdits(/^multiplyWeight/, guards);
      assert.match(weight.work, "gradient of the weight");
    });

    test(`a kernel that the driver refuses is a wrong result too${suffix}`, async () => {
      const wrong = await wrongWithEdits(/^normals$/, [[/fn main\(/, "fn other("]]);
      assert.is(wrong.work, "Gaussians of a direction");
      assert.match(wrong.detail, "normals with a fault");
    });
  }

  test("a device that is lost during the check", async () => {
    const { backend } = await openBackend({ backend: "webgpu" });
    if (!(backend instanceof WebGpuBackend)) throw new Error("no WebGPU backend");
    let count = 0;
    const losing = withFault(backend, (work) => {
      if (++count === 20) {
        backend.flush();
        backend.device.destroy();
      }
      return work;
    });
    assert.match((await findWrongResult(losing))?.detail ?? "", "the GPU was lost during or after ");
    backend.destroy();
  });

  test("a device without memory for the check is no wrong driver", async () => {
    const { backend } = await webgpuBackend();
    const full = new Proxy(backend, {
      get(target, key) {
        if (key === "allocate")
          return () => {
            throw new OutOfMemoryError("y: no memory left");
          };
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    assert.instance(await throwsMessage(() => findWrongResult(full), "y: no memory left"), OutOfMemoryError);
  });

  test("the refusal names adapter, driver, work, element, expected, got and what to do", () => {
    const error = refusal("card, driver 1.2", {
      work: "sampled tokens",
      detail: "ids, element 0 of 3: expected 7, got 8",
    });
    assert.is(error.name, "AdapterError");
    assert.is(
      error.message,
      "adapter: card, driver 1.2 fails the start-up check: sampled tokens: ids, element 0 of 3: expected 7, got 8. Install " +
        "another version of its driver, or choose another adapter (--adapter; --backend cpu needs none). " +
        "FOOTHOLD_SKIP_CHECK=1 uses it all the same.",
    );
    assert.match(
      refusal("card", { work: "x", detail: "continue from them." }).message,
      "x: continue from them. Install ",
    );
  });

  const folder = mkdtempSync(join(tmpdir(), "foothold-check-"));
  test.after(() => rmSync(folder, { recursive: true, force: true }));
  const inFolder = async (body: () => Promise<void>, cache = folder): Promise<void> => {
    const before = process.env["FOOTHOLD_CACHE"];
    process.env["FOOTHOLD_CACHE"] = cache;
    try {
      await body();
    } finally {
      if (before === undefined) delete process.env["FOOTHOLD_CACHE"];
      else process.env["FOOTHOLD_CACHE"] = before;
    }
  };
  const meantOf = async (description: string): Promise<Meant> => {
    const { backend } = await webgpuBackend();
    const { kind, style, memory, limits, abilities } = backend;
    return { kind, description, style, memory, limits, abilities };
  };
  /** The backend without `destroy`, since other tests use it. */
  const own = async (plant: Plant = (work) => work) => {
    const faulty = withFault((await webgpuBackend()).backend, plant);
    return new Proxy(faulty, {
      get: (target, key) => (key === "destroy" ? () => {} : Reflect.get(target, key, target)),
    });
  };

  test("a driver is checked once: the cache says that it passed, until the driver changes or the file is damaged", () =>
    inFolder(async () => {
      let opened = 0;
      const open = () => {
        opened++;
        return own();
      };
      const meant = await meantOf("driver 1");
      await expectSoundDriver(meant, {}, open);
      await expectSoundDriver(meant, {}, open);
      assert.is(opened, 1);
      const [file] = readdirSync(join(folder, "checks"));
      const written: unknown = JSON.parse(readFileSync(join(folder, "checks", file), "utf8"));
      const digest = checkDigest(meant, {});
      assert.equal(written, { schemaVersion: 1, adapter: "driver 1", digest });
      assert.ok(hasPassed(digest));
      assert.not.ok(hasPassed(checkDigest({ ...meant, description: "driver 2" }, {})));
      assert.not.ok(hasPassed(checkDigest({ ...meant, abilities: noAbilities }, {})));
      const garbage = [
        "",
        "{",
        "null",
        "\0\xff",
        JSON.stringify({ schemaVersion: 1, adapter: "driver 1", digest: "0" }),
      ];
      for (const text of garbage) {
        writeFileSync(join(folder, "checks", file), text);
        assert.not.ok(hasPassed(digest), text);
        rememberPass("driver 1", digest);
        assert.ok(hasPassed(digest));
      }
    }));

  test("a cache that cannot be written: the check passes, says so, and runs again at the next start", async () => {
    const blocked = join(folder, "a-file");
    writeFileSync(blocked, "");
    const digestOf = async (name: string): Promise<string> => checkDigest(await meantOf(name), {});
    const passes = async (name: string, cache: string, reason: string): Promise<void> =>
      inFolder(async () => {
        const meant = await meantOf(name);
        const text = await stderrOf(() => expectSoundDriver(meant, {}, own));
        const said = `${name} passed the start-up check, but that cannot be noted in the cache, so each start checks it again: `;
        assert.is(text.slice(0, said.length), said);
        assert.match(text.slice(said.length), reason);
        assert.match(text, /[^.]\.\n$/);
        assert.not.ok(hasPassed(await digestOf(name)));
      }, cache);
    await passes("driver 7", blocked, "FOOTHOLD_CACHE: expected a folder that can be written");
    const other = join(folder, "other");
    // Something else has the file's name.
    mkdirSync(join(other, "checks", `${(await digestOf("driver 8")).slice(0, 16)}.json`), { recursive: true });
    await passes("driver 8", other, "checks");
    assert.is(readdirSync(join(other, "checks")).length, 1, "a temporary file is left");
    // A full disk.
    const full = join(folder, "full");
    const { writeSync } = fs;
    fs.writeSync = () => {
      throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    };
    syncBuiltinESMExports();
    try {
      await passes("driver 9", full, "the disk is full");
    } finally {
      fs.writeSync = writeSync;
      syncBuiltinESMExports();
    }
    assert.equal(readdirSync(join(full, "checks")), []);
  });

  if (process.getuid?.() === 0) test.skip("a cache that was filled once serves read-only", "root may write anywhere");
  else
    test("a cache that was filled once serves read-only", () =>
      inFolder(async () => {
        const digest = checkDigest(await meantOf("driver 10"), {});
        rememberPass("driver 10", digest);
        const checks = join(folder, "checks");
        chmodSync(checks, 0o500);
        try {
          assert.ok(hasPassed(digest));
        } finally {
          chmodSync(checks, 0o700);
        }
      }));

  test("a wrong driver is refused, each time anew", () =>
    inFolder(async () => {
      const meant = await meantOf("driver 3");
      for (let i = 0; i < 2; i++)
        await throwsMessage(
          () => expectSoundDriver(meant, {}, () => own(onlyFirst(/^perturbRows$/))),
          "driver 3 fails the start-up check: a perturbed weight in its slot",
        );
      assert.not.ok(hasPassed(checkDigest(meant, {})));
    }));

  test("FOOTHOLD_SKIP_CHECK leaves the check out, and says so", async () => {
    process.env["FOOTHOLD_SKIP_CHECK"] = "1";
    try {
      const meant = await meantOf("driver 4");
      const text = await stderrOf(() => expectSoundDriver(meant, {}, () => Promise.reject(new Error("must not open"))));
      assert.match(text, "FOOTHOLD_SKIP_CHECK is set: driver 4 was NOT checked.");
    } finally {
      delete process.env["FOOTHOLD_SKIP_CHECK"];
    }
  });

  test("a check that takes long says what it waits for; a short one says nothing", () =>
    inFolder(async () => {
      const slow = await meantOf("driver 5");
      const afterAWhile = async () => {
        await setTimeout(2100);
        return own();
      };
      assert.is(
        await stderrOf(() => expectSoundDriver(slow, {}, afterAWhile)),
        "Checking the driver of driver 5, once: its kernels are compiled first.\n",
      );
      const quick = await meantOf("driver 6");
      assert.is(await stderrOf(() => expectSoundDriver(quick, {}, own)), "");
    }));
});

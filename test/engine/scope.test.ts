import * as assert from "uvu/assert";
import { CpuBackend } from "../../engine/backends/cpu.ts";
import { keep, scope, scopeAsync } from "../../engine/scope.ts";
import { empty, type Tensor } from "../../engine/tensor.ts";
import { describe, throwsMessage } from "../support.ts";

describe("engine/scope", (test) => {
  const backend = new CpuBackend();
  const make = (): Tensor => empty(backend, [4]);
  const live = (): number => backend.statistics().liveBuffers;

  /** How many buffers are live once `body` has run, and frees those that its result holds. */
  const leaves = (what: string, expected: number, body: () => Iterable<Tensor>): void => {
    const before = live();
    const kept = [...body()];
    assert.is(live() - before, expected, what);
    for (const tensor of kept) assert.not.ok(tensor.storage.isFreed, what);
    for (const tensor of kept) tensor.free();
    assert.is(live(), before, what);
  };
  const spare = <T>(result: T): T => {
    make();
    return result;
  };

  test("frees what it allocated, but for the tensors of its result", () => {
    leaves("nothing", 0, () => scope(() => spare([])));
    leaves("a tensor", 1, () => [scope(() => spare(make()))]);
    leaves("an array", 2, () => scope(() => spare([make(), make()])));
    leaves("an object", 2, () => Object.values(scope(() => spare({ a: make(), b: make() }))));
    leaves("a map", 2, () => scope(() => spare(new Map([1, 2].map((k) => [k, make()])))).values());
    leaves("a member that is no tensor", 1, () => [scope(() => spare({ a: make(), b: null, c: 3 })).a]);
  });

  test("a view keeps the memory that it looks into", () => {
    leaves("view", 1, () => [scope(() => spare(make()).view([2, 2]))]);
    leaves("rows", 1, () => [scope(() => spare(make()).sliceRows(1, 2))]);
    // Two of one memory are one to free.
    leaves("both", 1, () =>
      scope(() => {
        const x = spare(make());
        return [x, x.view([2, 2])];
      }),
    );
  });

  test("a result passes to the scope around it", () => {
    leaves("freed by the outer one", 0, () => {
      scope(() => {
        const inner = scope(() => spare(make()));
        assert.not.ok(inner.storage.isFreed);
      });
      return [];
    });
    leaves("passed on twice", 1, () => [scope(() => scope(() => spare(make())))]);
  });

  test("leaves alone what was made before it, also where it returns it", () => {
    const outside = make();
    scope(() => outside);
    scope(() => outside.view([2, 2]));
    assert.not.ok(outside.storage.isFreed);
    outside.free();
  });

  test("what is freed by hand is not freed again", () => {
    leaves("by hand", 0, () => {
      scope(() => make().free());
      return [];
    });
  });

  test("keep takes a tensor out of all scopes", () => {
    leaves("kept", 1, () => {
      const kept: Tensor[] = [];
      scope(() => scope(() => kept.push(spare(keep(make())))));
      return kept;
    });
    leaves("made further out", 1, () => {
      const kept: Tensor[] = [];
      scope(() => {
        const x = make();
        scope(() => kept.push(keep(x)));
      });
      return kept;
    });
  });

  test("an error frees all, in every scope that it passes", async () => {
    const before = live();
    const fail = (): never => {
      make();
      throw new Error("on purpose");
    };
    await throwsMessage(() => scope(() => spare(scope(fail))), "on purpose");
    assert.is(live(), before);
    await throwsMessage(() => scopeAsync(async () => spare(await scopeAsync(async () => fail()))), "on purpose");
    assert.is(live(), before);
    // And the scopes are closed: this tensor belongs to nobody.
    const after = make();
    scope(() => spare(null));
    assert.not.ok(after.storage.isFreed);
    after.free();
  });

  test("scopeAsync waits for its body", async () => {
    const before = live();
    const result = await scopeAsync(async () => {
      const x = spare(make());
      await new Promise((resolve) => setImmediate(resolve));
      assert.not.ok(x.storage.isFreed);
      make();
      return x;
    });
    assert.is(live() - before, 1);
    result.free();
  });

  test("scopes side by side each free what their own body made", async () => {
    const before = live();
    const wait = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const made: Tensor[][] = [[], []];
    const ends: string[] = [];
    /** Makes a tensor before, between and after waits; the second line of work is begun later and ends earlier. */
    const line = (i: number, waits: number): Promise<Tensor> =>
      scopeAsync(async () => {
        for (let n = 0; n < waits; n++) {
          made[i].push(scope(() => spare(make())));
          await wait();
          for (const tensor of made[i]) assert.not.ok(tensor.storage.isFreed, `line ${i}, wait ${n}`);
        }
        ends.push(`line ${i}`);
        return made[i][0];
      });
    const outer = await scopeAsync(async () => {
      const [first, second] = await Promise.all([line(0, 6), line(1, 3)]);
      assert.equal(ends, ["line 1", "line 0"]);
      for (const [i, kept] of [first, second].entries())
        for (const tensor of made[i]) assert.is(tensor.storage.isFreed, tensor !== kept, `line ${i}`);
      return first;
    });
    assert.is(live() - before, 1, "the outer scope frees what its lines passed on to it, but for its own result");
    outer.free();
  });

  test("an error in one of two lines of work frees what that one made, and no more", async () => {
    const before = live();
    let goOn: () => void = () => {};
    const waiting = new Promise<void>((resolve) => (goOn = resolve));
    const sound = scopeAsync(async () => {
      const x = make();
      await waiting;
      assert.not.ok(x.storage.isFreed);
      return x;
    });
    await throwsMessage(
      () =>
        scopeAsync(async () => {
          make();
          throw new Error("on purpose");
        }),
      "on purpose",
    );
    goOn();
    (await sound).free();
    assert.is(live(), before);
  });

  test("work that outlives its scope belongs to the scope around it", async () => {
    const before = live();
    await scopeAsync(async () => {
      let late: Promise<Tensor> | undefined;
      let goOn: () => void = () => {};
      const waiting = new Promise<void>((resolve) => (goOn = resolve));
      await scopeAsync(async () => {
        late = waiting.then(make);
      });
      goOn();
      assert.not.ok((await late)?.storage.isFreed);
      assert.is(live() - before, 1);
    });
    assert.is(live(), before);
  });
});

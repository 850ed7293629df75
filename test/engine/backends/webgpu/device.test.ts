// What is asked of Dawn and of the adapter, and what is left when either refuses a part of it. Dawn's answers are those
// of a real instance, changed where a test says so.
import * as assert from "uvu/assert";
import { adapterLine, describeAbilities } from "../../../../engine/adapter-line.ts";
import { noAbilities } from "../../../../engine/backends/backend.ts";
import { CpuBackend } from "../../../../engine/backends/cpu.ts";
import { type OpenedAdapter, openAdapter, usualToggles } from "../../../../engine/backends/webgpu/adapter.ts";
import { type Dawn, loadDawn } from "../../../../engine/backends/webgpu/dawn.ts";
import { matrixFeature } from "../../../../engine/backends/webgpu/dawn-extensions.ts";
import { openDevice, wantedFeatures } from "../../../../engine/backends/webgpu/device.ts";
import { openBackend } from "../../../../engine/open.ts";
import { webgpuBackend } from "../../../backends.ts";
import { stderrOf } from "../../../stderr-of.ts";
import { describe, throwsMessage } from "../../../support.ts";

async function realAdapter(adapter?: string): Promise<OpenedAdapter> {
  const { opened } = await openAdapter(adapter === undefined ? {} : { adapter });
  if (opened === null) throw new Error("no adapter");
  return opened;
}

/** The adapter under another name, so that what is said once is said again. */
function refusing(
  opened: OpenedAdapter,
  name: string,
  refuses: (descriptor: GPUDeviceDescriptor) => string | null,
): OpenedAdapter {
  const wrap = (adapter: GPUAdapter): GPUAdapter =>
    new Proxy(adapter, {
      get(target, key) {
        if (key === "requestDevice")
          return async (descriptor: GPUDeviceDescriptor = {}) => {
            const reason = refuses(descriptor);
            if (reason !== null) throw new Error(reason);
            return target.requestDevice(descriptor);
          };
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  const again = async (): Promise<GPUAdapter | null> => {
    const adapter = await opened.again();
    return adapter && wrap(adapter);
  };
  return { ...opened, adapter: wrap(opened.adapter), again, info: { ...opened.info, name } };
}

function matrixProgram({ M, N, K }: { M: number; N: number; K: number }, lanes: number): string {
  return `enable f16; enable chromium_experimental_subgroup_matrix;
    @group(0) @binding(0) var<storage, read_write> out: array<f32>;
    var<workgroup> a: array<f16, ${M * K}>;
    var<workgroup> b: array<f16, ${K * N}>;
    @compute @workgroup_size(${lanes}) fn main(@builtin(local_invocation_index) lane: u32) {
      for (var i = lane; i < ${M * K}; i += ${lanes}) { a[i] = 1; }
      for (var i = lane; i < ${K * N}; i += ${lanes}) { b[i] = f16(i / ${N} + i % ${N}); }
      workgroupBarrier();
      let left = subgroupMatrixLoad<subgroup_matrix_left<f16, ${K}, ${M}>, row_major>(&a, 0, ${K});
      let right = subgroupMatrixLoad<subgroup_matrix_right<f16, ${N}, ${K}>, row_major>(&b, 0, ${N});
      var sum = subgroup_matrix_result<f32, ${N}, ${M}>();
      sum = subgroupMatrixMultiplyAccumulate(left, right, sum);
      subgroupMatrixStore<row_major>(&out, 0, sum, ${N});
    }`;
}

/** Runs a program of one workgroup that writes `length` numbers. */
async function firstBuffer(device: GPUDevice, module: GPUShaderModule, length: number): Promise<Float32Array> {
  const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
  const out = device.createBuffer({ size: 4 * length, usage: STORAGE | COPY_SRC });
  const back = device.createBuffer({ size: 4 * length, usage: MAP_READ | COPY_DST });
  const layout = pipeline.getBindGroupLayout(0);
  const group = device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: out } }] });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, back, 0, 4 * length);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(GPUMapMode.READ);
  return new Float32Array(back.getMappedRange().slice(0));
}

const featuresOf = ({ requiredFeatures = [] }: GPUDeviceDescriptor): string[] => [...requiredFeatures];
const ofTest = "device-of-test";

describe("engine/backends/webgpu/device", (test) => {
  test("Dawn is given its toggles, beside those of the caller", async () => {
    const dawn: Dawn = await loadDawn();
    const { create } = dawn;
    const seen: string[][] = [];
    const spied: Dawn = {
      ...dawn,
      create: (flags) => {
        seen.push([...flags]);
        return create(flags);
      },
    };
    await openAdapter({ adapter: "null", toggles: ["skip_validation"], disabledToggles: ["lazy_clear"] }, spied);
    assert.equal(seen, [
      [
        "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,skip_validation",
        "disable-dawn-features=lazy_clear",
        "backend=null",
      ],
    ]);
  });

  test("allow_unsafe_apis reaches the adapter: it lists a feature that Dawn hides without it", async () => {
    const { adapter } = await realAdapter("null");
    assert.ok(adapter.features.has(matrixFeature));
    const { create } = await loadDawn();
    const without = await create(["backend=null"]).requestAdapter();
    assert.not(without?.features.has(matrixFeature));
  });

  for (const [how, refuse] of [
    [
      "throws",
      () => {
        throw new Error("unknown flag: enable-dawn-features");
      },
    ],
    [
      "finds no adapter",
      (gpu: GPU): GPU =>
        new Proxy(gpu, {
          get: (target, key) => (key === "requestAdapter" ? async () => null : Reflect.get(target, key, target)),
        }),
    ],
  ] as const)
    test(`an instance that ${how} under the toggles is made without them, and that is said once`, async () => {
      const dawn = await loadDawn();
      const { create } = dawn;
      const seen: string[] = [];
      const choosy: Dawn = {
        ...dawn,
        create: (flags) => {
          seen.push(flags.join(" "));
          return flags.some((flag) => flag.includes("vulkan_enable_f16_on_nvidia"))
            ? refuse(create(flags))
            : create(flags);
        },
      };
      // A toggle of its own, so that this instance is no other test's.
      const own = how === "throws" ? "skip_validation" : "dump_shaders";
      const open = async (): Promise<void> => {
        const { opened } = await openAdapter({ adapter: "null", disabledToggles: [own] }, choosy);
        assert.is(opened?.info.label, "null");
      };
      const text = await stderrOf(async () => {
        await open();
        await open();
      });
      assert.ok(seen.includes(`disable-dawn-features=${own} backend=null`), seen.join("\n"));
      assert.is(text.split("continuing without matrix units").length - 1, 1, text);
      assert.match(text, usualToggles.join(" and "));
    });

  test("the device has every wanted feature that the adapter has, and its limits", async () => {
    const opened = await realAdapter();
    const { device, abilities } = await openDevice(opened);
    for (const feature of wantedFeatures)
      assert.is(device.features.has(feature), opened.adapter.features.has(feature), feature);
    for (const name of [
      "maxBufferSize",
      "maxStorageBufferBindingSize",
      "maxComputeWorkgroupStorageSize",
      "maxComputeInvocationsPerWorkgroup",
      "maxImmediateSize",
    ] as const)
      assert.is(device.limits[name], opened.adapter.limits[name], name);
    assert.is(abilities.hasHalf, opened.adapter.features.has("shader-f16"));
    assert.equal(abilities.subgroups, opened.info.subgroups);
    assert.is(abilities.hasTimestamps, opened.adapter.features.has("timestamp-query"));
    assert.is(abilities.hasImmediates, true);
    assert.is(abilities.matrixShapes.length > 0, opened.adapter.features.has(matrixFeature));
    device.destroy();
  });

  test("matrix units: a kernel computes with the first shape that is listed; without any, Dawn refuses it", async () => {
    const { device, abilities } = await openDevice(await realAdapter());
    const { matrixShapes, subgroups } = abilities;
    // Set where the adapter is there for its matrix units: their tests must not pass by doing nothing.
    if (process.env["FOOTHOLD_EXPECT_MATRICES"])
      assert.ok(matrixShapes.length > 0, "the adapter lists no matrix units");
    for (const { componentType, resultType, M, N, K } of matrixShapes) {
      assert.match(componentType, /^(f16|f32|u8|i8)$/);
      assert.match(resultType, /^(f16|f32|u32|i32)$/);
      for (const size of [M, N, K]) assert.ok(Number.isInteger(size) && size > 0);
    }
    const inF32 = matrixShapes.find(({ componentType, resultType }) => componentType === "f16" && resultType === "f32");
    const { M, N, K } = inF32 ?? { M: 8, N: 8, K: 8 };
    const lanes = subgroups?.most ?? 8;
    device.pushErrorScope("validation");
    const code = matrixProgram({ M, N, K }, lanes);
    const module = device.createShaderModule({ code });
    const { messages } = await module.getCompilationInfo();
    await device.popErrorScope();
    const isValid = messages.every(({ type }) => type !== "error");
    assert.is(isValid, inF32 !== undefined, messages.map(({ message }) => message).join("\n"));
    if (isValid) {
      const result = await firstBuffer(device, module, M * N);
      // A = 1 in every place, B[k, n] = k + n: each sum is K (K − 1) / 2 + K n, exact in f16 and f32.
      const expected = Array.from({ length: M * N }, (_, i) => (K * (K - 1)) / 2 + K * (i % N));
      assert.equal([...result], expected);
    }
    device.destroy();
  });

  test("a feature that the driver lists and then refuses is left out, the others stay, and it is said once", async () => {
    const opened = await realAdapter();
    const reason = "VK_ERROR_FEATURE_NOT_PRESENT";
    const text = await stderrOf(async () => {
      for (let i = 0; i < 2; i++) {
        const choosy = refusing(await realAdapter(), ofTest, (asked) =>
          featuresOf(asked).includes("timestamp-query") ? reason : null,
        );
        const { device, abilities } = await openDevice(choosy);
        assert.is(abilities.hasTimestamps, false);
        assert.is(abilities.hasHalf, opened.adapter.features.has("shader-f16"));
        assert.equal(abilities.subgroups, opened.info.subgroups);
        assert.is(device.limits.maxBufferSize, opened.adapter.limits.maxBufferSize);
        device.destroy();
      }
    });
    assert.is(
      text,
      `${ofTest} lists timestamp-query but opens no device with it (${reason}): continuing without it. A newer driver may help.\n`,
    );
  });

  test("limits that the driver states and then refuses are left out, except those of buffers", async () => {
    const text = await stderrOf(async () => {
      const choosy = refusing(await realAdapter(), "limits-of-test", ({ requiredLimits = {} }) =>
        "maxComputeWorkgroupStorageSize" in requiredLimits ? "too much" : null,
      );
      const { device, abilities } = await openDevice(choosy);
      assert.is(device.limits.maxBufferSize, choosy.adapter.limits.maxBufferSize);
      assert.equal(abilities.subgroups, choosy.info.subgroups);
      device.destroy();
    });
    assert.match(text, "limits-of-test opens no device with its own limits (too much)");
  });

  test("a driver that opens no device at all is refused by name", async () => {
    const closed = refusing(await realAdapter(), "closed-of-test", () => "VK_ERROR_INITIALIZATION_FAILED");
    await stderrOf(async () => {
      await throwsMessage(
        () => openDevice(closed),
        "closed-of-test (",
        "opens no device",
        "VK_ERROR_INITIALIZATION_FAILED",
        "--adapter",
      );
    });
  });

  test("a software adapter has a limit of memory, and every adapter is described on the first line", async () => {
    const { backend } = await webgpuBackend();
    assert.is(backend.limits.totalBytes === undefined, backend.memory === "device");
    const opened = await openBackend({ backend: "webgpu" });
    const [line] = adapterLine(opened).split("\n");
    assert.match(line, `Adapter: ${opened.backend.description} (${opened.adapter?.label}): `);
    for (const word of ["f16", "subgroups", "matrix units", "timestamps", "memory: "]) assert.match(line, word);
    opened.backend.destroy();
  });

  test("the line names subgroups, and matrix units by their shapes", () => {
    assert.is(describeAbilities(noAbilities), "no f16, no subgroups, no matrix units, no timestamps");
    const shape = { componentType: "f16", resultType: "f32", M: 16, N: 16, K: 16 };
    const text = describeAbilities({
      hasHalf: true,
      subgroups: { least: 8, most: 32 },
      hasSubgroupSize: true,
      matrixShapes: [shape, { ...shape, resultType: "f16" }, { ...shape, K: 8 }],
      hasImmediates: true,
      hasTimestamps: true,
    });
    assert.is(
      text,
      "f16, subgroups of 8 to 32, matrix units 16×16×16 (f16→f32, f16→f16), 16×16×8 (f16→f32), timestamps",
    );
    const plain = { backend: new CpuBackend(), adapter: null, hasHalf: false, fasterHint: "No GPU." };
    assert.is(adapterLine(plain), `Adapter: ${plain.backend.description} (no GPU)\n  No GPU.`);
  });
});

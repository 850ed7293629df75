// onnxruntime-node's WebGPU provider, which includes its own copy of Dawn: matrix products only. The weight is a
// constant of the model and stays on the device. Every run uploads x and downloads y, since the Node binding offers
// nothing else.
import { existsSync } from "node:fs";
import type { Contestant } from "../contestant.ts";
import { matmulOperands, transposed } from "../tasks.ts";

/** The path where Mesa installs the description of its software driver. */
const lavapipeManifest = "/usr/share/vulkan/icd.d/lvp_icd.json";

export async function open(adapter: string): Promise<Contestant> {
  // Its Dawn does not know the driver that comes with our packages, and would choose another.
  if (adapter === "swiftshader") return { prepare: async () => null };
  if (adapter === "lavapipe") {
    const manifest = [lavapipeManifest, lavapipeManifest.replace(".json", ".x86_64.json")].find(existsSync);
    if (manifest !== undefined) process.env["VK_DRIVER_FILES"] = manifest;
  }
  const { InferenceSession, Tensor } = await import("onnxruntime-node");
  return {
    prepare: async (task) => {
      if (task.kind !== "matmul") return null;
      const { T, C, O } = task;
      const operands = matmulOperands(task);
      const model = matmulModel(T, C, O, transposed(operands.weight, O, C));
      const session = await InferenceSession.create(model, {
        executionProviders: ["webgpu"],
        // Fail instead of falling back to the processor.
        extra: { session: { disable_cpu_ep_fallback: "1" } },
      });
      const x = new Tensor("float32", operands.x, [T, C]);
      const once = async (): Promise<Float32Array> => {
        const { data } = (await session.run({ x }))["y"];
        if (!(data instanceof Float32Array)) throw new Error("onnxruntime: y is not f32");
        return data;
      };
      return {
        run: async (count) => {
          for (let i = 0; i < count; i++) await once();
        },
        results: async () => ({ y: await once() }),
      };
    },
  };
}

/** y = x · weight as an ONNX model: the few fields of its protobuf that are needed. */
function matmulModel(T: number, C: number, O: number, weight: Float32Array): Uint8Array {
  const matmul = node("MatMul", ["x", "weight"], ["y"]);
  const initializer = message([
    [1, C],
    [1, O],
    [2, 1], // FLOAT
    [8, "weight"],
    [9, new Uint8Array(weight.buffer, weight.byteOffset, weight.byteLength)],
  ]);
  const graph = message([
    [1, matmul],
    [2, "graph"],
    [5, initializer],
    [11, value("x", [T, C])],
    [12, value("y", [T, O])],
  ]);
  return message([
    [1, 8], // IR version
    [7, graph],
    [8, message([[2, 17]])], // operator set
  ]);
}

function node(type: string, inputs: readonly string[], outputs: readonly string[]): Uint8Array {
  return message([...inputs.map((name): Field => [1, name]), ...outputs.map((name): Field => [2, name]), [4, type]]);
}

function value(name: string, shape: readonly number[]): Uint8Array {
  const dimensions = message(shape.map((size): Field => [1, message([[1, size]])]));
  const type = message([
    [1, 1], // FLOAT
    [2, dimensions],
  ]);
  return message([
    [1, name],
    [2, message([[1, type]])],
  ]);
}

type Field = readonly [number: number, value: number | string | Uint8Array];

/** A protobuf message: numbers as varints, everything else with its length. */
function message(fields: readonly Field[]): Uint8Array {
  return Buffer.concat(
    fields.flatMap(([number, content]) => {
      if (typeof content === "number") return [varint(number << 3), varint(content)];
      const bytes = typeof content === "string" ? Buffer.from(content) : content;
      return [varint((number << 3) | 2), varint(bytes.length), bytes];
    }),
  );
}

function varint(of: number): Uint8Array {
  const bytes: number[] = [];
  let left = of;
  for (; left > 127; left = Math.floor(left / 128)) bytes.push((left % 128) | 128);
  return Uint8Array.from([...bytes, left]);
}

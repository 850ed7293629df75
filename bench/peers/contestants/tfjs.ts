// TensorFlow.js on WebGPU: matrix products only, since it has no fused attention and is not made for training a transformer.
import * as tf from "@tensorflow/tfjs-core";
import { type Contestant, offerAdapter, strictly } from "../contestant.ts";
import { matmulOperands } from "../tasks.ts";

export async function open(adapter: string): Promise<Contestant> {
  const devices = await offerAdapter(adapter);
  const { WebGPUBackend } = await import("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend("webgpu"))) throw new Error("tfjs: it has no WebGPU on this adapter");
  await tf.ready();
  const backend = tf.backend();
  if (!(backend instanceof WebGPUBackend)) throw new Error(`tfjs: expected its WebGPU backend, got ${tf.getBackend()}`);
  return {
    prepare: async (task) => {
      if (task.kind !== "matmul") return null;
      const { T, C, O } = task;
      const operands = matmulOperands(task);
      const x = tf.tensor2d(operands.x, [T, C]);
      const weight = tf.tidy(() => tf.transpose(tf.tensor2d(operands.weight, [O, C])));
      return {
        run: (count) =>
          strictly(devices, async () => {
            for (let i = 0; i < count; i++) tf.matMul(x, weight).dispose();
            backend.endComputePassEncoder();
            backend.submitQueue();
            for (const device of devices) await device.queue.onSubmittedWorkDone();
          }),
        results: () => strictly(devices, async () => ({ y: Float32Array.from(await tf.matMul(x, weight).data()) })),
      };
    },
  };
}

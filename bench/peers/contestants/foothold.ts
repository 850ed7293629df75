// foothold itself: its kernels as a training step runs them, with weights of linear layers in panels that were packed
// before.
import { fromArray, type GradientStore, openBackend, record, scope } from "../../../engine/index.ts";
import { attention, causalSpans } from "../../../engine/ops/attention/attention.ts";
import { multiplyForward, packPanels, panelShape } from "../../../engine/ops/matmul/matmul.ts";
import { empty, type Tensor } from "../../../engine/tensor.ts";
import { makeWeights, packSequences } from "../../../model/index.ts";
import type { Contestant, Prepared } from "../contestant.ts";
import { layerIds, layerUpstream, layerWeights } from "../layer-task.ts";
import { attentionOperands, heads, layerConfig, matmulOperands, type Results, type Task } from "../tasks.ts";

export async function open(adapter: string): Promise<Contestant> {
  return contestant(adapter, false);
}

/** @param packsEachTime  a matrix product packs the panels of its weight on every run */
export async function contestant(adapter: string, packsEachTime: boolean): Promise<Contestant> {
  const { backend } = await openBackend({ backend: "webgpu", adapter });
  const tensor = (values: ArrayLike<number>, shape: readonly number[]): Tensor => fromArray(backend, values, shape);
  const prepared = (once: () => void, results: () => Promise<Results>): Prepared => ({
    run: async (count) => {
      for (let i = 0; i < count; i++) once();
      await backend.idle();
    },
    results,
  });
  const read = async (tensors: Record<string, Tensor>): Promise<Results> =>
    Object.fromEntries(
      await Promise.all(
        Object.entries(tensors).map(async ([name, one]) => [name, Float32Array.from(await one.read())] as const),
      ),
    );

  function matmul(task: Task & { kind: "matmul" }): Prepared {
    const { T, C, O } = task;
    const operands = matmulOperands(task);
    const [x, weight, y] = [tensor(operands.x, [T, C]), tensor(operands.weight, [O, C]), empty(backend, [T, O])];
    const panels = empty(backend, panelShape(O, C));
    packPanels(weight, panels);
    const once = (): void => {
      if (packsEachTime) packPanels(weight, panels);
      multiplyForward(x, panels, null, y);
    };
    return prepared(once, () => read({ y }));
  }

  function attend({ T, pass }: Task & { kind: "attention" }): Prepared {
    const { H, K, D } = heads;
    const operands = attentionOperands(T);
    const q = tensor(operands.q, [T, H, D]);
    const keys = tensor(operands.k, [T, K, D]);
    const values = tensor(operands.v, [T, K, D]);
    const dy = tensor(operands.dy, [T, H, D]);
    const causal = causalSpans([T]);
    const spans = fromArray(backend, causal.spans, [T, 4], "u32");
    const querySpans = fromArray(backend, causal.querySpans, [T, 2], "u32");
    const call = (): Tensor => attention(q, keys, values, spans, querySpans);
    if (pass === "forward") {
      const y = call();
      return prepared(
        () => scope(() => void call()),
        () => read({ y }),
      );
    }
    const targets = new Map([q, keys, values].map((leaf) => [leaf, empty(backend, leaf.shape)] as const));
    for (const leaf of targets.keys()) leaf.requiresGradient = true;
    const store: GradientStore = { target: (leaf) => targets.get(leaf), has: () => false, mark: () => {} };
    const once = (): void =>
      scope(() => {
        const recording = record(call);
        recording.backward(new Map([[recording.result, dy]]), store);
      });
    const y = call();
    return prepared(once, async () => {
      once();
      const [dq, dk, dv] = [...targets.values()];
      return read({ y, dq, dk, dv });
    });
  }

  function layer(task: Task & { kind: "layer" }): Prepared {
    const weights = makeWeights(backend, layerConfig, { trainable: true });
    for (const [name, values] of layerWeights()) weights.load(name, values);
    weights.refreshCopies();
    const batch = packSequences(backend, [layerIds(task)]);
    const dy = tensor(layerUpstream(task), [task.T, layerConfig.hiddenSize]);
    const once = (): void =>
      scope(() => {
        const recording = record(() => layerConfig.forward(weights, batch, null));
        weights.clearGradients();
        recording.backward(new Map([[recording.result, dy]]), weights.gradients);
      });
    return prepared(once, async () => {
      once();
      const y = layerConfig.forward(weights, batch, null);
      const gradients = await weights.read(weights.names, "gradients");
      return { ...Object.fromEntries(gradients), ...(await read({ y })) };
    });
  }

  return {
    prepare: async (task) => {
      switch (task.kind) {
        case "matmul":
          return matmul(task);
        case "attention":
          return packsEachTime ? null : attend(task);
        case "layer":
          return packsEachTime ? null : layer(task);
        default:
          return task satisfies never;
      }
    },
  };
}

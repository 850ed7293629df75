// jax-js on WebGPU, everything under jit. Weights are [in, out], the layout in which its matmul was fastest. An
// operation consumes the arrays that it reads, so each further use needs a `.ref`.
import { blockUntilReady, defaultDevice, init, jit, nn, numpy as np, tree, valueAndGrad } from "@jax-js/jax";
import { rotaryTables } from "../../../engine/index.ts";
import { type Contestant, offerAdapter, type Prepared, strictly } from "../contestant.ts";
import { layerIds, layerUpstream, layerWeights } from "../layer-task.ts";
import {
  attentionOperands,
  heads,
  layerConfig,
  matmulOperands,
  type Results,
  type Task,
  transposed,
} from "../tasks.ts";

type JaxArray = np.Array;
type Weights = Record<string, JaxArray>;

export async function open(adapter: string): Promise<Contestant> {
  const devices = await offerAdapter(adapter);
  const found = await init("webgpu");
  if (!found.includes("webgpu")) throw new Error("jax-js: it has no WebGPU on this adapter");
  defaultDevice("webgpu");
  return {
    prepare: async (task) => {
      const own = await strictly(devices, async () => prepare(task));
      return {
        run: (count) => strictly(devices, () => own.run(count)),
        results: () => strictly(devices, own.results),
      };
    },
  };
}

function array(values: Float32Array, shape: number[]): JaxArray {
  return np.array(Float32Array.from(values), { shape });
}

function prepare(task: Task): Prepared {
  switch (task.kind) {
    case "matmul":
      return matmul(task);
    case "attention":
      return attend(task);
    case "layer":
      return layer(task);
    default:
      return task satisfies never;
  }
}

/** jax-js is lazy: a result that is not awaited is never computed. So all results are awaited, all at once. */
function repeated<R extends JaxArray | unknown[]>(once: () => R, results: () => Promise<Results>): Prepared {
  return {
    run: async (count) => {
      const made = Array.from({ length: count }, once);
      await Promise.all(made.map((result) => blockUntilReady(result)));
      tree.dispose(made);
    },
    results,
  };
}

async function data(of: JaxArray): Promise<Float32Array> {
  return Float32Array.from(await of.data());
}

function matmul(task: Task & { kind: "matmul" }): Prepared {
  const { T, C, O } = task;
  const operands = matmulOperands(task);
  const x = array(operands.x, [T, C]);
  const weight = array(transposed(operands.weight, O, C), [C, O]);
  const product = jit((a: JaxArray, b: JaxArray) => np.matmul(a, b));
  const once = (): JaxArray => product(x.ref, weight.ref);
  return repeated(once, async () => ({ y: await data(once()) }));
}

function attend({ T, pass }: Task & { kind: "attention" }): Prepared {
  const { H, K, D } = heads;
  const operands = attentionOperands(T);
  const q = array(operands.q, [T, H, D]);
  const k = array(operands.k, [T, K, D]);
  const v = array(operands.v, [T, K, D]);
  const dy = array(operands.dy, [T, H, D]);
  const attention = (a: JaxArray, b: JaxArray, c: JaxArray): JaxArray =>
    nn.dotProductAttention(a, b, c, { isCausal: true });
  const forward = jit(attention);
  const once = (): JaxArray => forward(q.ref, k.ref, v.ref);
  if (pass === "forward") return repeated(once, async () => ({ y: await data(once()) }));
  const loss = (a: JaxArray, b: JaxArray, c: JaxArray, d: JaxArray): JaxArray => np.sum(attention(a, b, c).mul(d));
  const both = jit(valueAndGrad(loss, { argnums: [0, 1, 2] }));
  const all = () => both(q.ref, k.ref, v.ref, dy.ref);
  return repeated(all, async () => {
    const [value, [dq, dk, dv]] = all();
    tree.dispose(value);
    return { y: await data(once()), dq: await data(dq), dk: await data(dk), dv: await data(dv) };
  });
}

function rmsNorm(x: JaxArray, weight: JaxArray): JaxArray {
  const meanSquare = np.mean(np.square(x.ref), -1, { keepdims: true });
  return x.div(np.sqrt(meanSquare.add(layerConfig.rmsNormEps))).mul(weight);
}

function rope(x: JaxArray, cos: JaxArray, sin: JaxArray): JaxArray {
  const [low, high] = np.split(x, 2, -1);
  return np.concatenate([low.ref.mul(cos.ref).sub(high.ref.mul(sin.ref)), high.mul(cos).add(low.mul(sin))], -1);
}

function decoderLayer(x: JaxArray, w: Weights, cos: JaxArray, sin: JaxArray): JaxArray {
  const { H, K, D } = heads;
  const T = x.shape[0];
  const at = (name: string): JaxArray => w[`model.layers.0.${name}`];
  const projection = (name: string, from: JaxArray): JaxArray =>
    np.matmul(from, at(`self_attn.${name}.weight`)).add(at(`self_attn.${name}.bias`));
  const h = rmsNorm(x.ref, at("input_layernorm.weight"));
  const q = rope(projection("q_proj", h.ref).reshape([T, H, D]), cos.ref, sin.ref);
  const k = rope(projection("k_proj", h.ref).reshape([T, K, D]), cos, sin);
  const v = projection("v_proj", h).reshape([T, K, D]);
  const mixed = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([T, H * D]);
  const afterAttention = x.add(np.matmul(mixed, at("self_attn.o_proj.weight")));
  const m = rmsNorm(afterAttention.ref, at("post_attention_layernorm.weight"));
  const gate = nn.silu(np.matmul(m.ref, at("mlp.gate_proj.weight")));
  const up = np.matmul(m, at("mlp.up_proj.weight"));
  const y = afterAttention.add(np.matmul(gate.mul(up), at("mlp.down_proj.weight")));
  return rmsNorm(y, w["model.norm.weight"]);
}

function layer(task: Task & { kind: "layer" }): Prepared {
  const { hiddenSize: C, headDim, ropeTheta } = layerConfig;
  const { T } = task;
  const values = layerWeights();
  const table = values.get("model.embed_tokens.weight") ?? new Float32Array();
  values.delete("model.embed_tokens.weight"); // looked up on the host: x is the layer's input and also gets a gradient
  const rows = Float32Array.from([...layerIds(task)].flatMap((id) => [...table.subarray(id * C, (id + 1) * C)]));
  const x = array(rows, [T, C]);
  const shapeOf = (name: string, size: number): [outputs: number, inputs: number] => {
    const inputs = name.includes("down_proj") ? layerConfig.intermediateSize : C;
    return [size / inputs, inputs];
  };
  const weights: Weights = Object.fromEntries(
    [...values].map(([name, own]) => {
      if (!name.endsWith("_proj.weight")) return [name, array(own, [own.length])];
      const [outputs, inputs] = shapeOf(name, own.length);
      return [name, array(transposed(own, outputs, inputs), [inputs, outputs])];
    }),
  );
  const angles = rotaryTables(
    Array.from({ length: T }, (_, t) => t),
    headDim,
    ropeTheta,
  );
  const cos = array(Float32Array.from(angles.cos), [T, 1, headDim / 2]);
  const sin = array(Float32Array.from(angles.sin), [T, 1, headDim / 2]);
  const dy = array(layerUpstream(task), [T, C]);
  const loss = (a: JaxArray, w: Weights, c: JaxArray, s: JaxArray, d: JaxArray): JaxArray =>
    np.sum(decoderLayer(a, w, c, s).mul(d));
  const both = jit(valueAndGrad(loss, { argnums: [0, 1] }));
  const forward = jit(decoderLayer);
  const all = () => both(x.ref, tree.ref(weights), cos.ref, sin.ref, dy.ref);
  return repeated(all, async () => {
    const [value, [dx, gradients]] = all();
    tree.dispose([value, dx]);
    const results: Results = { y: await data(forward(x.ref, tree.ref(weights), cos.ref, sin.ref)) };
    for (const [name, gradient] of Object.entries(gradients)) {
      const own = await data(gradient);
      const [outputs, inputs] = shapeOf(name, own.length);
      results[name] = name.endsWith("_proj.weight") ? transposed(own, inputs, outputs) : own;
    }
    return results;
  });
}

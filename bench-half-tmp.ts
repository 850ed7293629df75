import { openBackend, tokenKey } from "./engine/index.ts";
import { generate, loadForInference, type Model } from "./model/index.ts";
const { backend } = await openBackend({ backend: "webgpu", adapter: process.env["FOOTHOLD_ADAPTER"] ?? "lavapipe" });
const folder = process.argv[2];
const steps = Number(process.argv[3] ?? 12);
const rounds = Number(process.argv[4] ?? 5);
const models: Record<string, Model> = { f32: await loadForInference(backend, folder, "f32"), f16: await loadForInference(backend, folder, "f16") };
async function decode(model: Model, rows: number): Promise<{ ms: number; cpu: number; ids: string }> {
  let begun = 0, cpu0 = process.cpuUsage(), passes = 0;
  let end = 0, cpu = 0;
  let ids = "";
  await generate(model, Array.from({ length: rows }, (_, k) => ({
    policy: 0, prompt: Array.from({ length: 24 }, (_, i) => 100 + 7 * i), noise: { rollout: k, prompt: 0 }, expectedTokens: steps + 2,
    answered: (a: { ids: readonly number[] }) => { ids += a.ids.join() + ";"; return null; },
  })), { temperature: 0, maxNewTokens: steps + 2, noiseKey: tokenKey(1, "x", 0), stopIds: [], maxRows: rows, maxTokens: 4096, stepsPerRead: 1,
    onPass: () => { passes++; if (passes === 2) { begun = performance.now(); cpu0 = process.cpuUsage(); } if (passes === steps + 2) { end = performance.now(); const c = process.cpuUsage(cpu0); cpu = (c.user + c.system) / 1000; } } });
  return { ms: (end - begun) / steps, cpu: cpu / steps, ids };
}
for (const rows of [1, 16]) {
  const found: Record<string, { ms: number[]; cpu: number[] }> = { f32: { ms: [], cpu: [] }, f16: { ms: [], cpu: [] } };
  const ids: Record<string, string> = {};
  for (const p of ["f32", "f16"]) await decode(models[p], rows);
  for (let r = 0; r < rounds; r++) for (const p of ["f32", "f16"]) { const d = await decode(models[p], rows); found[p].ms.push(d.ms); found[p].cpu.push(d.cpu); ids[p] = d.ids; }
  const med = (v: number[]) => [...v].sort((a, b) => a - b)[v.length >> 1];
  console.log(rows, "rows: f32", med(found.f32.ms).toFixed(1), "ms", med(found.f32.cpu).toFixed(1), "cpu; f16", med(found.f16.ms).toFixed(1), med(found.f16.cpu).toFixed(1), "ratio wall", (med(found.f32.ms) / med(found.f16.ms)).toFixed(2), "cpu", (med(found.f32.cpu) / med(found.f16.cpu)).toFixed(2), ids.f32 === ids.f16);
}
for (const m of Object.values(models)) (m.weights as { free(): void }).free();
await backend.destroy();

// The first part: what the adapter offers, the choice of tiles, and the start-up check, which every command runs before
// it uses a driver. Here it runs even if the driver passed before.
import { describeAbilities } from "../../engine/adapter-line.ts";
import { openAdapter } from "../../engine/backends/webgpu/adapter.ts";
import { WebGpuBackend } from "../../engine/backends/webgpu/backend.ts";
import { openDevice } from "../../engine/backends/webgpu/device.ts";
import { casesFor } from "../../engine/check/cases.ts";
import { findWrongResult } from "../../engine/check/check.ts";
import { AdapterError } from "../../engine/errors.ts";
import { asError } from "../../engine/host/errors.ts";
import { tuneTiles } from "../../engine/ops/matmul/tune.ts";
import { emptyRow, plantDeath } from "./part.ts";
import type { Message, Order, Row } from "./results.ts";

export async function checkDriver(order: Order, send: (message: Message) => void): Promise<void> {
  const row = async (name: string, body: () => Promise<{ checked: string | null; note?: string }>): Promise<void> => {
    const begun = performance.now();
    const empty: Row = { ...emptyRow("check", name), samples: 1, runsPerSample: 1 };
    try {
      const { checked, note = null } = await body();
      const milliseconds = performance.now() - begun;
      const time = { milliseconds, wallMilliseconds: milliseconds, clock: "wall" as const };
      send({ kind: "row", row: { ...empty, ...time, checked, note } });
    } catch (thrown) {
      const reason = asError(thrown).message.replaceAll("\n", " ");
      send({ kind: "row", row: { ...empty, outcome: "failed", reason } });
    }
  };
  const begun = performance.now();
  const { opened, trouble } = await openAdapter({ adapter: order.adapter });
  if (opened === null) throw new AdapterError(`no adapter was found: ${trouble}. Install a Vulkan driver.`);
  const { info } = opened;
  const features = [...opened.adapter.features].sort();
  const { device, abilities } = await openDevice(opened);
  const { style, memory } = info;
  const description = `${info.name}, ${info.driver}`;
  const backend = new WebGpuBackend(device, { description, style, memory, abilities });
  const openMs = performance.now() - begun;
  send({
    kind: "adapter",
    isSoftware: info.computesOn !== "gpu",
    line: `${description} (${info.label}): ${describeAbilities(abilities)}`,
    adapter: {
      ...{ name: info.name, driver: info.driver, label: info.label, api: info.backend, features },
      matrixShapes: abilities.matrixShapes.map(
        ({ M, N, K, componentType, resultType }) => `${M}×${N}×${K} ${componentType}→${resultType}`,
      ),
      subgroups: abilities.subgroups === null ? "none" : `${abilities.subgroups.least} to ${abilities.subgroups.most}`,
      maxBufferBytes: backend.limits.maxBufferBytes,
    },
  });
  const opening = { milliseconds: openMs, wallMilliseconds: openMs, clock: "wall" as const };
  send({ kind: "row", row: { ...emptyRow("check", "open the device"), ...opening, samples: 1, runsPerSample: 1 } });
  if (order.tune === "on" || (order.tune === "auto" && info.computesOn === "gpu"))
    await row("choose tiles, once per driver", async () => {
      const chosen = Object.keys(await tuneTiles(backend)).length;
      return { checked: null, note: chosen === 0 ? "the rule's tiles are best" : `${chosen} differ from the rule's` };
    });
  await plantDeath(order.fault);
  await row("start-up check", async () => {
    const wrong = order.fault === "wrong" ? { work: "planted", detail: "a fault" } : await findWrongResult(backend);
    if (wrong !== null) throw new Error(`wrong value: ${wrong.work}: ${wrong.detail}`);
    return { checked: `${casesFor(backend).length} kinds of work against the plain backend` };
  });
  backend.destroy();
}

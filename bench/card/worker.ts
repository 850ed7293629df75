// The process of one part: a driver that crashes, hangs or loses its device there ends this part alone.
import { asError } from "../../engine/host/errors.ts";
import { openBackend } from "../../engine/open.ts";
import { checkDriver } from "./driver-check.ts";
import { Bench, runPart } from "./part.ts";
import { parts } from "./parts.ts";
import type { Message, Order } from "./results.ts";
import { sizesOf } from "./sizes.ts";

function send(message: Message): void {
  process.send?.(message);
}

async function work(order: Order): Promise<void> {
  const begun = performance.now();
  if (order.part === "check") return checkDriver(order, send);
  const { cases } = parts[order.part];
  if (cases === null) throw new Error(`${order.part} does not run in this process`);
  const { adapter, backend: kind, tune } = order;
  const { backend, hasHalf } = await openBackend({ adapter, backend: kind, tune });
  const sizes = sizesOf[order.sizes];
  const bench = new Bench(backend, hasHalf, sizes, order.limitMs - (performance.now() - begun), order.fault);
  await runPart(order.part, cases(sizes), bench, (row) => send({ kind: "row", row }));
  await backend.idle().catch(() => {}); // A lost device was reported in the rows.
  backend.destroy();
}

const order: Order = JSON.parse(process.argv[2]);
work(order)
  .then(
    () => {
      send({ kind: "end" });
      return 0;
    },
    (thrown: unknown) => {
      const { name, message } = asError(thrown);
      process.stderr.write(`${name}: ${message}\n`);
      return 1;
    },
  )
  // Messages are delivered before the channel closes.
  .then((code) => {
    process.exitCode = code;
    process.disconnect?.();
    setImmediate(() => process.exit(code)); // An open GPU would keep the process alive.
  });

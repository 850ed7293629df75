// Errors of a device. Dawn reports them asynchronously: they are kept, and thrown at the next read or wait.
import { DeviceError, DeviceLostError, type OutOfMemoryError } from "../../errors.ts";
import { asError } from "../../host/errors.ts";

export class Failures {
  readonly #device: GPUDevice;
  /** The first error since the last one was thrown. */
  #first: DeviceError | OutOfMemoryError | null = null;
  #lost: DeviceLostError | null = null;
  #isDestroyed = false;
  /** Kernels of the last submission, for the message about a lost device. */
  #lastKernels: readonly string[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
    device.lost.then(({ message }) => {
      if (this.#isDestroyed) return;
      const during =
        this.#lastKernels.length === 0 ? "before any work" : `during or after ${namesOf(this.#lastKernels)}`;
      this.#lost = new DeviceLostError(
        `the GPU was lost ${during}: ${asSentence(message)} Saved files are complete: run the same command again to continue from them.`,
      );
    });
    device.onuncapturederror = (event) => {
      this.add(new DeviceError(event.error.message));
    };
  }

  /** To be thrown, unless another one is. */
  add(failure: DeviceError | OutOfMemoryError): void {
    this.#first ??= failure;
  }

  /** Work was submitted: its error scope ends. @param kernels  that it ran */
  submitted(kernels: readonly string[]): void {
    this.#device.popErrorScope().then(
      (error) => {
        if (error !== null) this.add(new DeviceError(`${namesOf(kernels)}: ${error.message}`));
      },
      (error) => {
        this.add(new DeviceError(`${namesOf(kernels)}: ${asError(error).message}`));
      },
    );
    if (kernels.length > 0) this.#lastKernels = kernels;
  }

  /** Throws what is kept, if there is anything: a lost device each time, another error once. */
  throwFirst(): void {
    const failure = this.#lost ?? this.#first;
    this.#first = null;
    if (failure !== null) throw failure;
  }

  /** Why a wait failed: the error that the device reported, which may arrive a little later; if none, this message. */
  async causeOf(message: string): Promise<Error> {
    await new Promise((resolve) => setImmediate(resolve));
    const cause = this.#lost ?? this.#first ?? new DeviceError(message);
    this.#first = null;
    return cause;
  }

  /** The device is about to be destroyed: that is no loss. */
  end(): void {
    this.#isDestroyed = true;
    // Too late to be thrown, since another error may already be thrown; too serious to be dropped. So it is printed.
    if (this.#first !== null) process.stderr.write(`${this.#first.name}: ${this.#first.message}\n`);
  }
}

/** A message of the driver or of Dawn, which may lack its full stop, as a sentence that another one can follow. */
export function asSentence(message: string): string {
  const text = message.trim();
  return text === "" || /[.!?]$/.test(text) ? text : `${text}.`;
}

/** The kernels' names, each once; if there are many, the last ones. */
function namesOf(kernels: readonly string[]): string {
  if (kernels.length === 0) return "copies";
  const names = [...new Set(kernels)];
  return names.length > 8 ? `… ${names.slice(-8).join(", ")}` : names.join(", ");
}

// The engine's errors, one class per case that a caller handles differently. Errors that a user can cause and fix are
// `UserError`s (host/errors.ts). ShapeError and DeviceError are mistakes in code or driver and show their stack,
// but for a lost device.
import { UserError } from "./host/errors.ts";

/** There is no adapter, or it lacks what was asked for. */
export class AdapterError extends UserError {
  override name = "AdapterError";
}

/** A job that does not fit into memory: says by how much, and which setting would make it fit. */
export class OutOfMemoryError extends UserError {
  override name = "OutOfMemoryError";
}

/** A loss, gradient or weight that is NaN or infinite: names step and tensor. The weights were not changed. */
export class NumericalError extends UserError {
  override name = "NumericalError";
}

/** Tensors whose shapes or dtypes do not match: a mistake in the calling code. */
export class ShapeError extends Error {
  override name = "ShapeError";
}

/** The GPU refused a command or was lost: names the kernel. */
export class DeviceError extends Error {
  override name = "DeviceError";
}

/** The GPU was lost: its driver crashed, was reset, or the card is gone. No mistake in code: the message alone is shown. */
export class DeviceLostError extends DeviceError {
  override name = "DeviceLostError";
  readonly isMachineFailure = true;
}

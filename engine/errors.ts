// The engine's errors, one class for each case that a caller treats differently. Those that a user can cause and mend are
// `UserError`s (host/errors.ts); ShapeError and DeviceError are mistakes in code or driver and show their stack.
import { UserError } from "./host/errors.ts";

/** No adapter, or one that lacks what was asked for. */
export class AdapterError extends UserError {
  override name = "AdapterError";
}

/** A job that does not fit: says by how much, and which setting would make it fit. */
export class OutOfMemoryError extends UserError {
  override name = "OutOfMemoryError";
}

/** A loss, gradient or weight that is NaN or infinite: names step and tensor. The weights were left as they were. */
export class NumericalError extends UserError {
  override name = "NumericalError";
}

/** Tensors whose shapes or dtypes do not go together: a mistake in the calling code. */
export class ShapeError extends Error {
  override name = "ShapeError";
}

/** The GPU refused a command or was lost: names the kernel. */
export class DeviceError extends Error {
  override name = "DeviceError";
}

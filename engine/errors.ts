// One class for each thing that a caller tells apart. A message says where, what was expected, what came, and how to mend it.
//
// `UserError` and its children are mistakes of the person who runs a command: message, exit code 2, no stack (unless
// --verbose). Everything else is a mistake of ours and shows its stack.

/** What a user can cause and mend: the command line prints the message alone and exits with code 2. */
export class UserError extends Error {
  override name = "UserError";
}

/** A setting: unknown key, wrong type, out of bounds, or one that contradicts another. */
export class SettingsError extends UserError {
  override name = "SettingsError";
}

/** A file or folder that cannot be read or written, or whose content is damaged. */
export class FileError extends UserError {
  override name = "FileError";
}

/** A model folder: config.json, weights or tokenizer missing, damaged, or not from one model. */
export class CheckpointError extends UserError {
  override name = "CheckpointError";
}

/** A run folder that belongs to another study, is in use by another process, or cannot be continued. */
export class RunFolderError extends UserError {
  override name = "RunFolderError";
}

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

/** Turns whatever was thrown into an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

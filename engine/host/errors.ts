// Errors that the user of a command can cause and fix: the command prints the message alone and exits with code 2.
//
// One class per case that a caller handles differently. A message says where the error is, what was expected, what was
// found, and how to fix it. Every other error is a bug in this program and shows its stack, but for failures of the machine.

/** An error that a user can cause and fix: the command line prints the message alone and exits with code 2. */
export class UserError extends Error {
  override name = "UserError";
}

/** A setting is unknown, has the wrong type, is out of bounds, or contradicts another. */
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

/** Whether an error is told by its message alone: a mistake of the user, or a failure of the machine, such as a GPU that is lost. */
export function isToldAlone(thrown: unknown): thrown is Error {
  return (
    thrown instanceof UserError ||
    (thrown instanceof Error && "isMachineFailure" in thrown && thrown.isMachineFailure === true)
  );
}

/** Converts any thrown value into an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

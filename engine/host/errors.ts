// Errors that a person who runs a command can cause and mend: the command prints the message alone and exits with code 2.
//
// One class for each case that a caller treats differently. A message says where, what was expected, what was found, and how
// to mend it. Everything that is no `UserError` is our mistake and shows its stack.

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

/** Turns whatever was thrown into an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

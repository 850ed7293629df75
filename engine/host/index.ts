// Everything that commands share for dealing with the machine. It computes nothing, so it is a second public face of
// the engine.
export { backendSettings } from "./backend-settings.ts";
export {
  type Command,
  type CommandContext,
  projectVersion,
  renameCommands,
  runCommand,
} from "./command-line.ts";
export * from "./errors.ts";
export * from "./files.ts";
export { lockFolder } from "./folder-lock.ts";
export { groupBy } from "./group-by.ts";
export { cacheFolder } from "./host-cache.ts";
export {
  countRecords,
  type Journal,
  journalChecksum,
  type OnDamage,
  openJournal,
  openJournalOf,
  readJournal,
  readJournalOf,
  writeJournal,
} from "./journal.ts";
export { killPoint } from "./kill-point.ts";
export { gzipMember, MemberFile, readMembers } from "./member-file.ts";
export { Pauses } from "./pauses.ts";
export { createProgress, formatDuration, formatRate, type Phase, type Progress } from "./progress.ts";
export * from "./settings.ts";
export { nearestNames } from "./settings-names.ts";
export * from "./settings-sources.ts";
export * from "./settings-text.ts";
export { callWithin } from "./time-limit.ts";

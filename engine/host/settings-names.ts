// The answer to a setting that is not declared: its new name, the corresponding name for another program's name, or the
// nearest name. A wrong hint would mislead, so a near name is offered only if it is most likely a typing error. If there
// is none, the keys of the section that was typed are listed.

/** Names that users know from elsewhere. */
export interface OtherNames {
  /** Former keys, and their names now. Files may still use them; for a flag the message gives the new name. */
  readonly renamed?: ReadonlyMap<string, string>;
  /** The answer to a key that other programs have; null for an unknown key. */
  answer?(key: string): string | null;
  /**
   * Sections and keys that only another command reads, and that command: a file may have them, and they are left out (a
   * section is mentioned); such a flag is refused with the command's name.
   */
  readonly elsewhere?: ReadonlyMap<string, string>;
}

/** Keys of a section that a message lists at most. */
const mostInHint = 16;

interface Known {
  readonly byKey: ReadonlyMap<string, unknown>;
  readonly names: OtherNames;
}

/** One sentence about an unknown key in a file. `value` is given as it is shown to people. */
export function unknownSetting(settings: Known, key: string, value: string, where: string): string {
  const keys = [...settings.byKey.keys()];
  const inside = keys.filter((name) => name.startsWith(`${key}.`));
  if (inside.length > 0) return `${key} is a section, got ${value} (${where}); set ${inside.slice(0, 5).join(", ")}`;
  return `unknown setting ${key} (${where})${hint(settings, key, keys, "")}`;
}

/** As `unknownSetting`, for a flag as it was typed. `switches` are flags that are no settings. */
export function unknownFlag(settings: Known, flag: string, switches: readonly string[]): string {
  const typed = flag.replace(/^-+/, "");
  const renamed = settings.names.renamed?.get(typed);
  if (renamed !== undefined) return `${flag} is now --${renamed}`;
  const other = settings.names.elsewhere?.get(typed) ?? settings.names.elsewhere?.get(typed.split(".")[0]);
  if (other !== undefined) return `unknown flag ${flag}; it is a flag of ${other}`;
  const told = hint(settings, typed, [...settings.byKey.keys(), ...switches], "--");
  return `unknown flag ${flag}${told || "; --help lists all"}`;
}

function hint({ names }: Pick<Known, "names">, typed: string, known: readonly string[], dashes: string): string {
  const answer = names.answer?.(typed) ?? null;
  if (answer !== null) return `; ${answer}`;
  const nearest = nearestNames(typed, known).map((name) => dashes + name);
  if (nearest.length === 0) return sectionHint(typed, known, dashes);
  return `; did you mean ${nearest.length === 1 ? nearest[0] : `one of ${nearest.join(", ")}`}?`;
}

/** The keys of the section that was typed, if there is such a section and it is small enough to be read in a message. */
function sectionHint(typed: string, known: readonly string[], dashes: string): string {
  const section = typed.slice(0, typed.lastIndexOf(".") + 1);
  if (section === "") return "";
  const inside = known.filter((name) => name.startsWith(section)).map((name) => name.slice(section.length));
  if (inside.length === 0 || inside.length > mostInHint) return "";
  return `; ${dashes}${section.slice(0, -1)} has ${inside.join(", ")}`;
}

const plain = (name: string): string => name.toLowerCase().replaceAll(/[-_]/g, "");
const lastPart = (name: string): string => plain(name.slice(name.lastIndexOf(".") + 1));

/**
 * The names that a mistyped name most likely meant: those with the fewest edits, at most 1 if the last part has up to 4
 * letters, else at most 2. If there are none: names with the same last part, provided that no section was typed or one
 * that contains theirs.
 */
export function nearestNames(typed: string, names: readonly string[]): string[] {
  const near = names
    .map((name) => ({ name, edits: editDistance(plain(typed), plain(name)) }))
    .filter(({ name, edits }) => edits <= (Math.min(lastPart(typed).length, lastPart(name).length) <= 4 ? 1 : 2));
  const fewest = near.reduce((least, { edits }) => Math.min(least, edits), 2);
  if (near.length > 0)
    return near
      .filter(({ edits }) => edits === fewest)
      .map(({ name }) => name)
      .slice(0, 3);
  const section = typed.includes(".") ? typed.slice(0, typed.indexOf(".") + 1) : "";
  return names.filter((name) => name.startsWith(section) && lastPart(name) === lastPart(typed)).slice(0, 3);
}

/** Levenshtein distance: the fewest insertions, deletions and replacements of one letter. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

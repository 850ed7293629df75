// Checks that the commands and links in the documents exist. Works on any folder, so that the rules themselves can be
// tested on made-up folders.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

/** Every .md file of a project, except installed and generated ones. */
export function documentsOf(root: string, folder = root): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !["node_modules", "runs", "dist", "models", ".git", ".cache"].includes(name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return documentsOf(root, path);
      return entry.name.endsWith(".md") ? [relative(root, path)] : [];
    })
    .sort();
}

const fence = /^(```|~~~).*\n([\s\S]*?)^\1/gm;

/** Commands in code blocks and code spans that begin with npm, npx or node, with or without a prefix such as CI=1. */
export function commandsOf(text: string): string[] {
  const lines = [...text.matchAll(fence)].flatMap(([, , block]) => block.split(/\n|&&|;/));
  const spans = [...text.replaceAll(fence, "").matchAll(/`([^`\n]+)`/g)].map(([, span]) => span);
  return [...lines, ...spans]
    .map((line) =>
      line
        .trim()
        .replace(/^\$ /, "")
        .replace(/^(?:[A-Z_]+=\S* )+/, "")
        .replace(/\s+#.*$/, "")
        .trim(),
    )
    .filter((line) => /^(?:npm|npx|node) \S/.test(line));
}

/** The missing file or script that such a command names, or null. */
export function missingOf(command: string, root: string): string | null {
  const { scripts = {} }: { scripts?: Record<string, string> } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  );
  const [tool, ...words] = command.split(/\s+/);
  // `--import FILE` names a file of the user's own.
  const named = words.filter((word, i) => !word.startsWith("-") && words[i - 1] !== "--import");
  if (tool === "npm") {
    const verb = named[0];
    const script = ["run", "run-script"].includes(verb)
      ? named[1]
      : ["start", "test"].includes(verb)
        ? verb
        : undefined;
    return script === undefined || script in scripts ? null : `package.json has no script "${script}"`;
  }
  const file = tool === "npx" ? (named[0] === "node" ? named[1] : undefined) : named[0];
  // Relative to the folder that contains the user's clone.
  const inClone = file?.replace(/^foothold\//, "");
  return inClone === undefined || existsSync(join(root, inClone)) ? null : `there is no ${file}`;
}

/** The anchors that GitHub makes from the headings. */
function anchorsOf(text: string): Set<string> {
  const found = new Set<string>();
  for (const [, heading] of text.replaceAll(fence, "").matchAll(/^#+\s+(.*?)\s*#*$/gm)) {
    const anchor = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-");
    let name = anchor;
    for (let i = 1; found.has(name); i++) name = `${anchor}-${i}`;
    found.add(name);
  }
  return found;
}

/** Relative links of a document whose target does not exist, one line each. */
export function brokenLinks(root: string, file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  const prose = text.replaceAll(fence, "").replaceAll(/`[^`\n]*`/g, "");
  const targets = [
    ...prose.matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)/g),
    ...prose.matchAll(/^\s*\[[^\]]+\]:\s*<?([^\s>]+)/gm),
    ...prose.matchAll(/<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)="([^"]+)"/g),
  ].map(([, target]) => target);
  return targets
    .filter((target) => !/^[a-z][a-z0-9+.-]*:|^\/\//i.test(target))
    .flatMap((target) => {
      const [path, anchor] = decodeURI(target).split("#");
      const to = path === "" ? join(root, file) : resolve(root, dirname(file), path);
      if (!existsSync(to)) return [`${file}: ${target}: there is no ${relative(root, to)}`];
      if (anchor === undefined || anchor === "" || !statSync(to).isFile() || !to.endsWith(".md")) return [];
      return anchorsOf(readFileSync(to, "utf8")).has(anchor) ? [] : [`${file}: ${target}: no heading gives #${anchor}`];
    });
}

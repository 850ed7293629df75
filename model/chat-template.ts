// Compiles a chat template with @huggingface/jinja so that it renders as in Python, where templates are written. The
// package differs in two ways, which are corrected here:
//   - line ends: Python's Jinja turns CRLF and CR into LF before it parses;
//   - `strip`, `lstrip` and `rstrip`: the package ignores their argument, and its white space is JavaScript's.
import { Template } from "@huggingface/jinja";

/** A compiled chat template. */
export interface ChatTemplate {
  render(variables: Record<string, unknown>): string;
}

/** @throws Error when the template cannot be parsed */
export function compileTemplate(source: string): ChatTemplate {
  const template = new Template(source.replace(/\r\n?/g, "\n"));
  replaceStrips(template.parsed);
  return { render: (variables) => template.render({ ...variables, [stripName]: boundStrip }) };
}

/** The variable that holds `boundStrip`. No template can have such a name, because of the space. */
const stripName = "python strip";

/** The ends of a text from which each method removes characters. */
const strips = {
  strip: { start: true, end: true },
  lstrip: { start: true, end: false },
  rstrip: { start: false, end: true },
} as const;

const isStrip = (name: unknown): name is keyof typeof strips => typeof name === "string" && Object.hasOwn(strips, name);

/** Replaces `x.strip` by `boundStrip(x, "strip")` in a syntax tree, called or not; likewise lstrip and rstrip. */
function replaceStrips(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  for (const [key, child] of Object.entries(node)) {
    replaceStrips(child);
    const method = stripOf(child);
    if (method === null) continue;
    const callee = { type: "Identifier", value: stripName };
    const args = [method.object, { type: "StringLiteral", value: method.name }];
    Reflect.set(node, key, { type: "CallExpression", callee, args });
  }
}

/** The object and the name of `x.strip` or `x["strip"]`; null for any other node. */
function stripOf(node: unknown): { object: object; name: keyof typeof strips } | null {
  if (!hasKeys(node, "type", "object", "property") || node.type !== "MemberExpression") return null;
  const { object, property } = node;
  if (!hasKeys(property, "type", "value") || typeof object !== "object" || object === null) return null;
  const isName = property.type === ("computed" in node && node.computed === true ? "StringLiteral" : "Identifier");
  return isName && isStrip(property.value) ? { object, name: property.value } : null;
}

function hasKeys<K extends string>(node: unknown, ...keys: K[]): node is Record<K, unknown> {
  return typeof node === "object" && node !== null && keys.every((key) => key in node);
}

/** The method `name` of a text, as Python's `str` has it. */
function boundStrip(text: unknown, name: unknown): (...given: unknown[]) => string {
  if (!isStrip(name)) throw new Error(`expected a method of str, got ${name}`);
  if (typeof text !== "string")
    throw new Error(`${name}(): expected a string to remove characters from, got ${nameOf(text)}`);
  return (...given) => {
    const [characters = null] = given;
    if (given.length > 1 || (characters !== null && typeof characters !== "string"))
      throw new Error(`${name}(): expected no argument or one string, got ${given.map(nameOf).join(", ")}`);
    return strip(text, characters, strips[name]);
  };
}

const nameOf = (value: unknown): string => (value === null ? "none" : typeof value);

/** Whether Python's `str.isspace` calls a code point white space. */
const isSpace = (point: string): boolean =>
  "\u001c\u001d\u001e\u001f\u0085".includes(point) || (point !== "\ufeff" && /\s/.test(point));

/** Python's `str.strip(characters)`: removes code points of the set, or white space if it is null, from the ends. */
function strip(text: string, characters: string | null, from: { start: boolean; end: boolean }): string {
  const set = new Set(characters ?? "");
  const goes = (point: string): boolean => (characters === null ? isSpace(point) : set.has(point));
  const points = Array.from(text);
  let [start, end] = [0, points.length];
  if (from.start) while (start < end && goes(points[start])) start++;
  if (from.end) while (end > start && goes(points[end - 1])) end--;
  return points.slice(start, end).join("");
}

// The page's own parts, as the script finds, reads and makes them. Text is set as text, never as markup.

export function find<E extends Element>(selector: string): E {
  const found = document.querySelector<E>(selector);
  if (found === null) throw new Error(`report: the page has no ${selector}`);
  return found;
}

/** The value that page-data.ts packed into this element. */
export async function unpack<T>(element: Element): Promise<T> {
  const bytes = Uint8Array.from(atob((element.textContent ?? "").trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

export function make(name: string, className: string, ...children: (Node | string)[]): HTMLElement {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

/** Says a sentence to screen readers. */
export function announce(sentence: string): void {
  find("#announcement").textContent = sentence;
}
